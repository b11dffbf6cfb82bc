"""Takes the picture of a report in the README: light on a wide screen, dark on a phone. Needs chromium.

python docs/images/screenshot.py runs/digits/version_0/report.html docs/images/report.png
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PAGE = """<!doctype html><body style="margin:0;background:#8a8d94">
<style>iframe {{border:0;position:absolute;top:24px;border-radius:10px;height:1250px}}</style>
<iframe src="{url}" style="left:24px;width:980px;color-scheme:light"></iframe>
<iframe src="{url}" style="left:1028px;width:390px;color-scheme:dark"></iframe>"""


def main(report: Path, target: Path) -> None:
    """Writes the picture, in 128 colours: a third of the size."""
    with tempfile.TemporaryDirectory() as folder:
        frame, shot = Path(folder) / "frame.html", Path(folder) / "shot.png"
        frame.write_text(PAGE.format(url=report.resolve().as_uri()))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1442,1298"]
        subprocess.run(["chromium", *options, f"--screenshot={shot}", frame.as_uri()], check=True, capture_output=True)
        Image.open(shot).convert("RGB").quantize(128).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
