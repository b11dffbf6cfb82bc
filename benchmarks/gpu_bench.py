"""What `gpu.py` measures with: sizes, a timer, and parts that fail by themselves, with results written as they come."""

from __future__ import annotations

import gc
import itertools
import json
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.training.graphed_step import Recorder


@dataclass(frozen=True)
class Sizes:
    """What is measured; tests take less."""

    nets: dict[str, tuple[int, int, int]] = field(
        default_factory=lambda: {"S": (400, 8_000, 6), "L": (784, 64_000, 6), "XL": (95_232, 1_024_000, 5)}
    )
    batch: int = 100
    trees: dict[str, tuple[int, int]] = field(  # k of LogicTreeNet, and thresholds of a colour
        default_factory=lambda: {"S": (32, 3), "M": (256, 3), "L": (1024, 31)}
    )
    tree_batch: int = 128
    epoch: int = 45_000  # images of CIFAR-10 that train, as the recipes have it
    lut_inputs: int = 4
    layer_gates: int = 1_024_000
    layer_batches: tuple[int, ...] = (100, 1024)
    packed_net: str = "L"
    packed_batch: int = 32_768
    copy_bytes: int = 2**31
    fit_steps: int = 1_000  # of `lgn fit mnist`
    repeats: int = 50


class Timer:
    """Median milliseconds of a call, by events on the GPU, each call timed for itself."""

    #: What the timed calls of a slow one take together, in ms; five of them at least.
    AT_MOST = 3_000.0

    def __call__(self, call: Callable[[], object], repeats: int) -> float:
        """Calls a few times first: a graph is recorded at the fourth."""
        for _ in range(4):
            call()
        once = self._times(call, 1)[0]
        return statistics.median(self._times(call, max(5, min(repeats, int(self.AT_MOST / once)))))

    @staticmethod
    def _times(call: Callable[[], object], repeats: int) -> list[float]:
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
        torch.cuda.synchronize()
        marks[0].record()
        for mark in marks[1:]:
            call()
            mark.record()
        torch.cuda.synchronize()
        return [a.elapsed_time(b) for a, b in itertools.pairwise(marks)]


class NoGraph:
    """Stands for a recorder of graphs where there are none: a replay runs the step."""

    def warm_up(self, step: Callable[[], Tensor]) -> Tensor:
        """Runs the step."""
        return step()

    def record(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Gives the step itself and the tensor that holds its result."""
        result = torch.full((), torch.nan)
        return lambda: result.copy_(step()), result


def wall_ms(call: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of a call by the wall's clock, called first as often as `Timer` does."""
    for _ in range(5):
        call()
    times = [time.perf_counter()]
    for _ in range(repeats):
        call()
        times.append(time.perf_counter())
    return 1e3 * statistics.median(b - a for a, b in itertools.pairwise(times))


def stand_ins() -> dict[str, Any]:
    """What a `Bench` measures with on a CPU, at sizes that take a moment."""
    sizes = Sizes(
        nets={"S": (20, 40, 2), "L": (784, 400, 3)}, batch=2, trees={"S": (1, 3)}, tree_batch=2,
        layer_gates=50, layer_batches=(4, 9), packed_batch=33, copy_bytes=500, fit_steps=2, repeats=2,
    )  # fmt: skip
    return {"timer": wall_ms, "sizes": sizes, "recorder": NoGraph()}


@dataclass
class Bench:
    """Where and how to measure, and what came of it.

    Args:
        device: Where tensors are made.
        timer: Median milliseconds of a call and a number of repeats.
        sizes: What is measured.
        recorder: Of graphs; CUDA's if not given.
        file: Where the results are written after each part, if anywhere.
        known: Facts that are written with them.
        part_seconds: The process ends by SIGALRM where a part takes longer; 0 lets it.
        rows: The results.
        parts: What became of each part, by name: ``"done"``, ``"skipped: …"``, ``"failed: …"`` or ``"running"``.
        lost: Whether a part has left the GPU unusable for this process.
    """

    device: torch.device
    timer: Callable[[Callable[[], object], int], float]
    sizes: Sizes = field(default_factory=Sizes)
    recorder: Recorder | None = None
    file: Path | None = None
    known: dict[str, Any] = field(default_factory=dict)
    part_seconds: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    lost: bool = False

    def add(self, what: str, library: str, precision: str, ms: float, **more: Any) -> None:
        """Notes a result, with the memory that its part has taken at most so far."""
        if self.device.type == "cuda":
            more["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
        self.rows.append({"what": what, "library": library, "precision": precision, "ms": ms, **more})
        print(f"{what}, {library}, {precision}: {ms:.4f} ms {more or ''}", file=sys.stderr, flush=True)

    def run(self, parts: Mapping[str, Callable[[], object]]) -> None:
        """Measures part by part what has not been measured yet, as long as the GPU is usable."""
        for what, measure in parts.items():
            if self.lost:
                return
            if what not in self.parts:
                self.attempt(what, measure)

    def attempt(self, what: str, measure: Callable[[], object]) -> None:
        """Measures a part, or says in a line why that could not be."""
        self._note(what, "running")
        start, outcome = time.perf_counter(), "done"
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        # The default action of the signal ends a process that waits in native code, as a handler in Python would not.
        signal.alarm(self.part_seconds)
        try:
            measure()
        except (torch.OutOfMemoryError, ImportError, LgnError) as error:
            outcome = f"skipped: {_line(error)}"
        except (Exception, SystemExit) as error:
            outcome = f"failed: {_line(error)}"
        # A kernel that went wrong is often noticed here, and ends all that this process does on the GPU.
        try:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
        except RuntimeError as error:
            self.lost = True
            outcome = outcome if outcome != "done" else f"failed: {_line(error)}"
        signal.alarm(0)
        if outcome != "done":
            state, reason = outcome.split(": ", 1)
            print(f"{state} {what}: {reason}", file=sys.stderr, flush=True)
        self.known.setdefault("part_s", {})[what] = round(time.perf_counter() - start, 1)
        self._note(what, outcome)

    @property
    def failures(self) -> dict[str, str]:
        """The parts that failed, with the reasons; not those that could not be measured here."""
        return {what: outcome for what, outcome in self.parts.items() if outcome.startswith("failed")}

    def resume(self) -> None:
        """Takes over what another process has written to the file; the part that it did not end counts as failed."""
        if self.file is None or not self.file.exists():
            return
        written = json.loads(self.file.read_text())
        self.rows, self.parts = written.pop("results"), written.pop("parts")
        self.known = {**written, **self.known}
        for what, outcome in self.parts.items():
            if outcome == "running":
                self.parts[what] = "failed: it did not end"

    def _note(self, what: str, outcome: str) -> None:
        self.parts[what] = outcome
        if self.file is not None:
            content = {**self.known, "parts": self.parts, "results": self.rows}
            atomic_write_text(self.file, json.dumps(content, indent=2) + "\n")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def table(rows: list[dict[str, Any]], ours: str) -> str:
    """The results as Markdown; the ratio is the time of another library over that of ours, of the same step."""
    known_times = {row["what"].removesuffix(", eager"): row["ms"] for row in rows if row["library"] != ours}
    lines = ["| what | library | precision | ms | × peer | and |", "|---|---|---|---|---|---|"]
    for row in rows:
        known = known_times.get(row["what"].removesuffix(", eager").removesuffix(", graph"))
        ratio = f"{known / row['ms']:.1f}" if known and row["library"] == ours else ""
        more = []
        for name, value in row.items():
            if name.endswith("share"):
                of = "bare step" if row["what"].startswith("lgn fit") else "copy bandwidth"
                more.append(f"{name.replace('_', ' ')} of {of} {value:.1%}")
            elif name not in ("what", "library", "precision", "ms"):
                more.append(f"{name.replace('_', ' ')} {value:.4g}")
        cells = (row["what"], row["library"], row["precision"], f"{row['ms']:.4f}", ratio, ", ".join(more))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def facts(device: torch.device) -> dict[str, Any]:
    """GPU, driver, versions and command, which a table needs to mean something."""
    driver = "unknown"
    with suppress(OSError, subprocess.SubprocessError, IndexError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
    return {
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "driver": driver,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "command": shlex.join(["python", *sys.argv]),
    }
