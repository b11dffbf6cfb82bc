"""Steps a second of processor time: a circuit with state by the engine on packed bits, and one stream by exported C.

    python benchmarks/stream.py

Cells with random tables, of about 8,000 gates after the passes for the engine and 1,000 for the C, which a stream takes
one sample at a time, without scores. Medians of 9 rounds; the C is compiled by `cc -O1`.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lgn_lightning.circuit import EngineError, SequenceEngine, SequentialCircuit
from lgn_lightning.models import LogicRNN

ROUNDS, STEPS, WORDS = 9, 32, 128
MAIN = """
#include <stdio.h>
#include <time.h>
#include "net.c"

int main(void)
{
    static uint8_t inputs[4096][LGN_NET_NUM_INPUTS];
    uint32_t random = 1;
    lgn_net_stream stream;
    for (int i = 0; i < 4096; i++)
        for (int j = 0; j < LGN_NET_NUM_INPUTS; j++)
            inputs[i][j] = (random = random * 1664525u + 1013904223u) >> 31;
    lgn_net_reset(&stream);
    for (int round = 0; round < %d; round++) {
        struct timespec start, end;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
        for (int i = 0; i < 4096; i++)
            lgn_net_step_bools(&stream, inputs[i], NULL);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        printf("%%f\\n", ((end.tv_sec - start.tv_sec) * 1e9 + end.tv_nsec - start.tv_nsec) / 4096);
    }
    return 0;
}
"""


def cell(state: int, width: list[int], out: int) -> SequentialCircuit:
    """A circuit of random tables on 64 bits a step, after the passes."""
    torch.manual_seed(0)
    net = LogicRNN(10, in_bits=64, state=state, width=width, out=out, readout="last", keep=0.5).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    return SequentialCircuit.from_module(net).optimize()


def time_engine(circuit: SequentialCircuit, isa: str, name: str) -> float:
    """Millions of steps a second of 8,192 sequences of 32 steps."""
    engine = SequenceEngine(circuit, name, isa=isa)
    words = np.random.default_rng(0).integers(0, 2**63, (STEPS, circuit.num_inputs, WORDS)).astype(np.uint64)
    engine.packed(words)
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        engine.packed(words)
        times.append(time.process_time() - start)
    return STEPS * WORDS * 64 / statistics.median(times) / 1e6


def time_c(circuit: SequentialCircuit, word_bits: int) -> float:
    """Nanoseconds a step of one stream."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.c").write_text(circuit.to_c(word_bits=word_bits))
        (Path(folder) / "main.c").write_text(MAIN % ROUNDS)
        subprocess.run(["cc", "-O1", "-o", "main", "main.c", "-lm"], cwd=folder, check=True)
        said = subprocess.run(["./main"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return statistics.median(map(float, said.split()))


def main() -> None:
    large, small = cell(1150, [18000, 13500], 5600), cell(240, [1800, 1400], 560)
    print(f"engine: {large}\nC: {small}")
    for isa in ("avx512", "avx2"):
        for name in ("machine-code", "interpreter"):
            try:
                print(f"{isa} {name}: {time_engine(large, isa, name):.1f} M steps/s", flush=True)
            except EngineError as error:  # another processor
                print(f"{isa} {name}: {error}")
    for word_bits in (8, 64):
        print(f"C, a state bit in {word_bits} bits: {time_c(small, word_bits):.0f} ns a step", flush=True)


if __name__ == "__main__":
    main()
