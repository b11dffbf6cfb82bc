"""The report in a real browser: drawn in both colour schemes, and nothing wider than a phone."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: apt-get install chromium)")


@pytest.fixture
def report(run: Path) -> Path:
    return run / "report.html"


def chromium(folder: Path, url: str, *arguments: str) -> str:
    base = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    base += [f"--user-data-dir={folder / 'profile'}", "--allow-file-access-from-files", "--virtual-time-budget=4000"]
    done = subprocess.run([*base, *arguments, url], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_fits_a_phone(report: Path, tmp_path: Path) -> None:
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="{report.as_uri()}" width="360" height="700" id="f"></iframe><script>'
        "window.onload = () => {const d = document.getElementById('f').contentDocument;"
        "document.body.dataset.result = [d.documentElement.scrollWidth, d.querySelectorAll('svg.chart').length,"
        "[...d.querySelectorAll('img')].every(i => i.naturalWidth > 0)].join(' ')}</script>"
    )
    dom = chromium(tmp_path, frame.as_uri(), "--dump-dom")
    width, charts, images = dom.split('data-result="')[1].split('"')[0].split()
    assert int(width) <= 360
    assert int(charts) >= 9
    assert images == "true"


def test_wide_tables_say_that_they_scroll_and_the_activity_fills_its_row(report: Path, tmp_path: Path) -> None:
    found = {}
    for width in (360, 1100):
        frame = tmp_path / f"frame{width}.html"
        frame.write_text(
            f'<iframe src="{report.as_uri()}" width="{width}" height="700" id="f"></iframe><script>'
            "window.onload = () => setTimeout(() => {const d = document.getElementById('f').contentDocument;"
            "const box = e => d.querySelector(e).getBoundingClientRect();"
            "const wide = [...d.querySelectorAll('.scroll.wide')];"
            "const hint = wide.length ? d.defaultView.getComputedStyle(wide[0], '::before').content : 'none';"
            "const row = [...d.querySelectorAll('#activity .row svg')].map(e => e.getBoundingClientRect());"
            "document.body.dataset.result = [wide.length, hint.includes('scroll'),"
            "(Math.max(...row.map(r => r.right)) - row[0].left) / box('#chart-activity').width"
            "].join(' ')}, 500)</script>"
        )
        found[width] = chromium(tmp_path, frame.as_uri(), "--dump-dom").split('data-result="')[1].split('"')[0].split()
    count, hint, share = found[360]
    assert int(count) > 0
    assert hint == "true"
    assert float(share) > 0.95
    count, hint, share = found[1100]
    assert (int(count), hint) == (0, "false")
    assert float(share) > 0.95


@pytest.mark.parametrize(("scheme", "dark"), [("1", False), ("0", True)])
def test_follows_the_colour_scheme(report: Path, tmp_path: Path, scheme: str, dark: bool) -> None:
    shot = tmp_path / "shot.png"
    chromium(
        tmp_path,
        report.as_uri(),
        f"--blink-settings=preferredColorScheme={scheme}",
        f"--screenshot={shot}",
        "--window-size=900,1800",
    )
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert bool(np.median(pixels) < 60) is dark
    # Text and curves stand out from the background.
    assert pixels.max() - pixels.min() > 150
    assert len(np.unique(pixels)) > 50
