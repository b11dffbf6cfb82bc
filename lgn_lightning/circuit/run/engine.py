"""Engines that run a circuit without compiling it: machine code, interpreter, numpy."""

import ctypes
import time
import warnings
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit import native, simulate
from lgn_lightning.circuit.net.looped import LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.passes.optimize import optimize
from lgn_lightning.circuit.run.loop_program import LoopProgram, loop_program
from lgn_lightning.circuit.simulate import check_samples

#: ``auto`` takes the first that this machine has.
ENGINES = ("machine-code", "interpreter", "numpy")


_Results = tuple[NDArray[np.int32], NDArray[Any]]


class EngineError(RuntimeError):
    """An engine that was asked for by name is not available."""


def native_engines() -> list[tuple[str, str]]:
    """Engines that this machine may have, each with an instruction set, the fastest first; BuildError if none."""
    sets = native.ISA_NAMES[int(native.library().lgn_best_isa()) :: -1]
    return [("machine-code", isa) for isa in sets[:-1]] + [("interpreter", isa) for isa in sets]


class Engine:
    """A circuit, ready to run. Thread-safe; releases the GIL while it runs.

    The loops of a looped circuit run first, in compiled loops of the instruction set, then its tail in the engine.

    Args:
        circuit: Netlist of two-input gates, looped or not.
        engine: ``auto``, or one of `ENGINES`: ``machine-code`` (x86-64 with AVX-512 or AVX2), ``interpreter`` (any
            processor), ``numpy`` (needs no compiler).
        threads: Threads of a call; by default one.
        isa: Instruction set: ``generic`` (interpreter only), ``avx2``, ``avx512``; by default the best.
        optimized: Whether the circuit went through `optimize(level=2)` already.

    Attributes:
        name: The engine that runs.
        circuit: The circuit, before the passes.
        build_seconds: Time to optimise and to build the engine.
        info: Slots, operations, bytes of program or code, loads and stores.

    Raises:
        CircuitError: If an argument is not known or the circuit has gates of three inputs.
        EngineError: If the engine that was asked for by name is not available; says why.
    """

    def __init__(
        self,
        circuit: Netlist | LoopedNetlist,
        engine: str = "auto",
        *,
        threads: int = 1,
        isa: str | None = None,
        optimized: bool = False,
    ) -> None:
        if engine not in ("auto", *ENGINES):
            raise CircuitError(f"engine must be one of auto, {', '.join(ENGINES)}, got {engine!r}")
        if isa is not None and isa not in native.ISA_NAMES:
            raise CircuitError(f"isa must be one of {', '.join(native.ISA_NAMES)}, got {isa!r}")
        if circuit.arity != 2:
            raise CircuitError("engines take circuits of two-input gates: they map to three inputs themselves")
        if threads < 1:
            raise CircuitError(f"threads must be at least 1, got {threads}")
        self.circuit = circuit
        self._asked = engine, isa, optimized
        self.threads = min(threads, 1024)
        self.name = "numpy"
        self.info: dict[str, int] = {}
        self._handle: int | None = None
        self._library: ctypes.CDLL | None = None
        self._fallback: Engine | None = None
        started = time.perf_counter()
        self._isa = isa
        if engine != "numpy":
            self._make(engine, optimized)
        self.build_seconds = time.perf_counter() - started

    def _make(self, engine: str, optimized: bool) -> None:
        try:
            self._library = native.library()
            small = self.circuit if optimized else optimize(self.circuit, level=2)
        except native.BuildError as error:
            if engine != "auto":
                raise EngineError(f"engine {engine!r} is not available: {error}") from error
            warnings.warn(f"circuits run in numpy, hundreds of times slower: {error}", RuntimeWarning, stacklevel=4)
            return
        self._small = small
        program = small if isinstance(small, Netlist) else loop_program(small)
        reason = ""
        for name in ENGINES[:2]:
            if engine in ("auto", name):
                reason = self._create(name, program)
                if not reason:
                    return
        raise EngineError(f"engine {engine!r} is not available: {reason}")

    def _create(self, name: str, program: Netlist | LoopProgram) -> str:
        """Returns "" on success, else the reason."""
        assert self._library is not None
        circuit = program if isinstance(program, Netlist) else program.tail
        best = int(self._library.lgn_best_isa())
        isa = best if self._isa is None else native.ISA_NAMES.index(self._isa)
        if name == "machine-code" and native.ISA_NAMES[isa] == "avx512":  # there a gate of three inputs costs no more
            circuit = native.map_luts(circuit, 3)
        message = ctypes.create_string_buffer(256)
        net = native.describe(circuit)
        handle = self._library.lgn_engine_new(ctypes.byref(net), native.KINDS.index(name), isa, message, len(message))
        if not handle:
            return message.value.decode()
        self._handle, self.name = handle, name
        if isinstance(program, LoopProgram):
            _set_loops(self._library, handle, program)
        keys = ("slots", "operations", "bytes", "loads", "stores")
        self.info = {key: int(self._library.lgn_engine_info(handle, index)) for index, key in enumerate(keys)}
        return ""

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None and self._library is not None:
            self._library.lgn_engine_free(self._handle)
            self._handle = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Machine code and addresses are those of one process: a copy builds its own, on the machine that it comes to.
        engine, isa, optimized = self._asked
        return partial(type(self), isa=isa, threads=self.threads, optimized=optimized), (self.circuit, engine)

    def __call__(self, x: ArrayLike) -> NDArray[np.int32]:
        """Scores of samples, int32 ``[N, classes]``.

        Args:
            x: numpy array or CPU tensor: bool ``[N, inputs]``, or, where the circuit has an encoder, uint8 pixels
                ``[N, C, H, W]`` or ``[N, C·H·W]``; a CircuitError if it is neither.
        """
        return self._samples(x, scores=True, classes=False)[0]

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """What the scores of each sample say: classes int32 ``[N]``, or see `Decoding.decide`."""
        return self._samples(x, scores=False, classes=True)[1]

    def scores_and_classes(self, x: ArrayLike) -> _Results:
        """Both results in one run."""
        return self._samples(x, scores=True, classes=True)

    def packed(self, words: NDArray[np.uint64], count: int | None = None) -> NDArray[np.int32]:
        """Scores of packed inputs, int32 ``[count, classes]``.

        ``words`` are uint64 ``[inputs, w]``: bit *j* of word *i* is sample 64·i + j, as `pack_bits` makes them;
        ``count`` of these samples are computed, by default all 64·w.
        """
        return self._packed(words, count, scores=True, classes=False)[0]

    def packed_scores_and_classes(self, words: NDArray[np.uint64], count: int | None = None) -> _Results:
        """Scores and classes of packed inputs in one run; see `packed`."""
        return self._packed(words, count, scores=True, classes=True)

    def predict_packed(self, words: NDArray[np.uint64], count: int | None = None) -> NDArray[Any]:
        """What the scores of packed inputs say; see `packed` and `predict`."""
        return self._packed(words, count, scores=False, classes=True)[1]

    def outputs(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Packed output bits of packed inputs, uint64 ``[inputs, w]`` → ``[outputs, w]``, always by the interpreter."""
        words = self._check_words(words)
        if self._handle is None:
            return simulate.simulate(self.circuit, words)
        if self.name != "interpreter":
            # Machine code sums up the outputs while it makes them and keeps none.
            if self._fallback is None:
                self._fallback = Engine(self._small, "interpreter", threads=self.threads, optimized=True)
            return self._fallback.outputs(words)
        result = np.empty((self.circuit.outputs.size, words.shape[1]), np.uint64)
        where = words.ctypes.data, words.shape[1], words.shape[1] * 64
        self._call("lgn_engine_packed", where, 0, False, False, result.ctypes.data)
        return result

    def sequences(
        self,
        words: NDArray[np.uint64],
        initial: NDArray[np.bool_],
        counted: int,
        classes: int,
        samples: int,
        lengths: NDArray[np.int64] | None,
        summed: bool,
    ) -> NDArray[np.int32] | None:
        """Scores of packed sequences, of an engine of one step, see `SequenceEngine`; None where it is not native.

        Args:
            words: uint64 ``[steps, inputs of a step, w]``.
            initial: State before the first step; the circuit's last inputs, and its last outputs.
            counted: Outputs that are counted.
            classes: Groups of them.
            samples: Sequences.
            lengths: Steps of each; None for all.
            summed: Whether the scores of all steps are summed up, or are those of the last.
        """
        if self._handle is None or self._library is None:
            return None
        words, bits = np.ascontiguousarray(words), np.ascontiguousarray(initial, np.uint8)
        scores = np.zeros((samples, classes), np.int32)
        ends = None if lengths is None else np.ascontiguousarray(lengths, np.int64)
        sizes = len(words), words.shape[1], bits.size, counted, classes, words.shape[2], samples, int(summed)
        arrays = (native.pointer(array) for array in (words, bits, ends, scores))
        if self._library.lgn_engine_sequences(self._handle, native.Sequences(*arrays, *sizes), self.threads):
            raise MemoryError("the engine found no memory for its slots")
        return scores

    def _samples(self, x: ArrayLike, *, scores: bool, classes: bool) -> _Results:
        kind, rows = check_samples(self.circuit, x)
        if self._handle is None:
            return self._with_decisions(simulate.scores(self.circuit, x))
        if kind == "rows":
            bits = self._row_bits
            where = rows.ctypes.data, rows.shape[1], bits, len(bits), rows.shape[0]
            return self._call("lgn_engine_rows", where, rows.shape[0], scores, classes)
        levels = self.circuit.levels if kind == "pixels" else np.zeros(1, np.uint8)
        assert levels is not None
        where = rows.ctypes.data, rows.shape[1], levels.ctypes.data, levels.size, rows.shape[0]
        return self._call("lgn_engine_bytes", where, rows.shape[0], scores, classes)

    @cached_property
    def _row_bits(self) -> Any:
        """The comparisons that gates or outputs read, as the library takes them."""
        assert self.circuit.comparisons is not None
        flat = self._small if isinstance(self._small, Netlist) else None
        read = np.arange(self.circuit.num_inputs)
        if flat is not None:
            read = flat.inputs_read.astype(np.intp)
        return native.describe_comparisons(self.circuit.comparisons, read)

    def _packed(self, words: NDArray[np.uint64], count: int | None, *, scores: bool, classes: bool) -> _Results:
        words = self._check_words(words)
        samples = words.shape[1] * 64 if count is None else count
        if not 0 <= samples <= words.shape[1] * 64:
            raise CircuitError(f"{words.shape[1]} words hold up to {words.shape[1] * 64} samples, not {samples}")
        if self._handle is None:
            return self._with_decisions(simulate.packed_scores(self.circuit, words, samples))
        where = words.ctypes.data, words.shape[1], samples
        return self._call("lgn_engine_packed", where, samples, scores, classes, None)

    def _call(
        self, function: str, where: tuple[int, ...], count: int, scores: bool, classes: bool, *outputs: int | None
    ) -> _Results:
        """Calls an entry point of the library; results that are not asked for are empty."""
        decided = classes and self.circuit.decoding.kind != "argmax"  # of the scores, here
        scores, classes = scores or decided, classes and not decided
        sums = np.empty((count if scores else 0, self.circuit.num_classes), np.int32)
        best = np.empty(count if classes else 0, np.int32)
        wanted = sums.ctypes.data if scores else None, best.ctypes.data if classes else None
        if getattr(self._library, function)(self._handle, *where, self.threads, *wanted, *outputs):
            raise MemoryError("the engine found no memory for its slots")
        return self._with_decisions(sums) if decided else (sums, best)

    def _with_decisions(self, scores: NDArray[np.int32]) -> _Results:
        return scores, self.circuit.decoding.decide(scores)

    def _check_words(self, words: NDArray[Any]) -> NDArray[np.uint64]:
        array = np.asarray(words)
        if array.dtype != np.uint64 or array.ndim != 2 or array.shape[0] != self.circuit.num_inputs:
            wanted = f"uint64 [{self.circuit.num_inputs}, w]"
            raise CircuitError(f"packed words must be {wanted}, got {array.dtype} {list(array.shape)}")
        return np.ascontiguousarray(array)

    def __repr__(self) -> str:
        return f"Engine({self.name}, {self.circuit!r})"


def _set_loops(library: ctypes.CDLL, engine: int, program: LoopProgram) -> None:
    """Puts the steps of a looped circuit in front of an engine that was made for its tail."""
    described = (
        native.LoopStep(**step.numbers, **{name: native.pointer(array) for name, array in step.arrays.items()})
        for step in program.steps
    )
    steps = (native.LoopStep * len(program.steps))(*described)
    if library.lgn_engine_set_loops(engine, program.num_inputs, program.register_slots, steps, len(steps)):
        raise MemoryError("no memory for the loops of the circuit")
