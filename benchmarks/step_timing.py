"""What `train_step.py` and `conv_step.py` time steps with: the options, a pinned process a library, the loop in it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

#: Peak memory of `import torch`, in MB, if this is imported first.
IMPORTED_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
#: What the plain row of our own is called; more words follow for other ways to train.
OURS = "lgn-lightning"
WARM_UP = 3


@dataclass(frozen=True)
class Script:
    """What the two scripts differ in.

    Attributes:
        file: Of the script, which workers run again.
        about: Its docstring.
        nets: Names of nets.
        methods: Ways to train of our own.
        peers: Libraries that are timed on request.
        measure: Measures the library `options.worker` on the net `options.net[0]`, by `time_steps`.
        usual_steps: Steps of a library that is fast, by net.
        slow_steps: Steps of a peer.
        table: The results as Markdown.
    """

    file: str
    about: str
    nets: Collection[str]
    methods: Collection[str]
    peers: Collection[str]
    measure: Callable[[argparse.Namespace], dict[str, Any]]
    usual_steps: Callable[[str], int]
    slow_steps: int
    table: Callable[[list[dict[str, Any]]], str]


def main(script: Script) -> int:
    """Times what was asked for, a process a library, and prints a table."""
    options = _parser(script).parse_args()
    if options.worker:
        os.sched_setaffinity(0, set(options.cores))
        torch.set_num_threads(len(options.cores))
        torch.manual_seed(0)
        result = script.measure(options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**result, "peak_rss_mb": peak, "memory_mb": peak - IMPORTED_MB}))
        return 0
    own = [OURS, *([f"{OURS} bf16"] if options.bf16 else []), *(f"{OURS} {method}" for method in options.method)]
    plan = [(name, 1) for name in [*own, *options.peer]]
    plan[1:1] = [(OURS, options.threads)] if options.threads > 1 else []
    cores = options.cores or sorted(os.sched_getaffinity(0))[-options.threads :]
    results: list[dict[str, Any]] = []
    for net in options.net or script.nets:
        for name, threads in plan:
            steps = options.steps or (script.slow_steps if name in script.peers else script.usual_steps(net))
            result = _in_a_process(script.file, name, net, steps, cores[-threads:], options.clock)
            results += [result] if result else []
    print(script.table(results))
    if options.json:
        facts = {"torch": torch.__version__, "python": platform.python_version(), "processor": _processor()}
        options.json.write_text(json.dumps({**facts, "results": results}, indent=2) + "\n")
    return 0


def _parser(script: Script) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=script.about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", choices=tuple(script.peers), default=[], help="also time this one")
    parser.add_argument("--net", action="append", choices=tuple(script.nets), help="only this net")
    text = "also time ours so"
    parser.add_argument("--method", action="append", choices=tuple(script.methods), default=[], help=text)
    parser.add_argument("--bf16", action="store_true", help="also time ours under autocast to bfloat16")
    parser.add_argument("--threads", type=int, default=1, help="also time ours on this many threads")
    parser.add_argument("--steps", type=int, default=0, help="steps of each; more for the fast ones if not given")
    parser.add_argument("--cores", type=int, nargs="+", help="cores to pin to; the last ones if not given")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a core that others use too")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def _in_a_process(file: str, name: str, net: str, steps: int, cores: list[int], clock: str) -> dict[str, Any] | None:
    """Measures in a fresh, pinned process; a line tells the time, or why the library cannot run."""
    command = [sys.executable, file, "--worker", name, "--net", net, "--steps", str(steps), "--clock", clock]
    command += ["--cores", *map(str, cores)]
    backend = "torch" if name == "reference" else os.environ.get("LGN_BACKEND", "cpu")
    environment = {**os.environ, "LGN_BACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
        print(f"skipped {name} on {net}: {why}", file=sys.stderr)
        return None
    measured = json.loads(done.stdout.splitlines()[-1])
    print(f"{name} on {net}: {measured['step_ms']:.2f} ms", file=sys.stderr)
    return {"library": name, "net": net, "threads": len(cores), "steps": steps, "clock": clock, **measured}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def time_steps(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    options: argparse.Namespace,
    every: int = 1,
    before: Callable[[int], None] = lambda step: None,
) -> dict[str, Any]:
    """Times forward, cross entropy, backward and Adam(fused=True) of a batch.

    `before` is called with a step's number. Steps of a net that does more at every n-th one take unlike times: then the
    mean over them of a median each.

    Returns:
        Milliseconds by the names of the parts, and the loss at the end.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    now = time.perf_counter if options.clock == "wall" else time.process_time
    times = []
    for step in range(-WARM_UP * every, options.steps):
        optimizer.zero_grad()
        before(step)
        start = now()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.worker.endswith("bf16")):
            loss = nn.functional.cross_entropy(model(x), y)
        forward = now()
        loss.backward()
        backward = now()
        optimizer.step()
        end = now()
        times.append((forward - start, backward - forward, end - backward, end - start))
    times = times[WARM_UP * every :]
    kinds = [zip(*times[kind::every], strict=True) for kind in range(every)]
    medians = [[1e3 * statistics.median(part) for part in kind] for kind in kinds]
    parts = [statistics.fmean(part) for part in zip(*medians, strict=True)]
    return {
        **dict(zip(("forward_ms", "backward_ms", "optimizer_ms", "step_ms"), parts, strict=True)),
        "fastest_step_ms": 1e3 * min(part[3] for part in times),
        "loss": loss.item(),
    }
