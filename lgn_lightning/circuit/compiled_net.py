"""`CompiledLogicNet`: a net as compiled C, with the arguments of the original library's class of this name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lgn_lightning.circuit.api import Circuit
from lgn_lightning.circuit.emit.c import WORD_BITS
from lgn_lightning.circuit.emit.compiled import CompiledCircuit
from lgn_lightning.circuit.emit.compiler import compile_source
from lgn_lightning.circuit.emit.text import template
from lgn_lightning.circuit.passes.optimize import optimize_for_export
from lgn_lightning.circuit.run.engine import ENGINES


class CompiledLogicNet(nn.Module):
    """A hard net as compiled C, with the arguments of the original library's class of this name.

    Args:
        model: Net that `Circuit.from_module` accepts and that ends in a `GroupSum`; None only for `load`.
        device: ``"cpu"``.
        num_bits: Samples in a word: 8, 16, 32 or 64.
        cpu_compiler: C compiler: ``"gcc"``, ``"clang"``, or a path.
        verbose: Print what is done.
        engine: ``"auto"`` runs the net in the fastest `Engine`, built in milliseconds, and uses the C compiler only for
            libraries that are saved; ``"c"`` always compiles C; any other name is that of an engine.
        input_shape: Shape (C, H, W) of an image, for a net that begins with a convolution or a threshold encoder that
            does not know it.

    Raises:
        ValueError: If an argument is not one of these; CircuitError (a ValueError) if a module cannot become gates.
    """

    def __init__(
        self,
        model: nn.Module | None,
        device: str = "cpu",
        num_bits: int = 64,
        cpu_compiler: str = "gcc",
        verbose: bool = False,
        engine: str = "auto",
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if device != "cpu":
            raise ValueError(f"CompiledLogicNet runs on device='cpu', got {device!r}; use PackBitsTensor on a GPU")
        if num_bits not in WORD_BITS:
            raise ValueError(f"num_bits must be one of {WORD_BITS}, got {num_bits!r}")
        self.model, self.device, self.num_bits, self.cpu_compiler = model, device, num_bits, cpu_compiler
        self.verbose = verbose
        if engine not in ("c", "auto", *ENGINES):
            raise ValueError(f"engine must be one of c, auto, {', '.join(ENGINES)}, got {engine!r}")
        self.engine = engine
        self.circuit = None if model is None else Circuit.from_module(model, input_shape=input_shape)
        self.num_classes = None if self.circuit is None else self.circuit.num_classes
        self._run: Callable[[Any], NDArray[np.int32]] | None = None
        self._opt_level: int | None = None
        if verbose and self.circuit is not None:
            print(f"CompiledLogicNet: {self.circuit}")

    def get_c_code(self) -> str:
        """Returns the C source of the net, optimised; a RuntimeError if it was loaded as a library and has none."""
        if self.circuit is None:
            raise RuntimeError("this net was loaded from a library and has no C source; make it from the model")
        return optimize_for_export(self.circuit)[0].to_c(word_bits=self.num_bits) + template("difflogic.c")

    def compile(
        self, opt_level: int = 1, save_lib_path: str | os.PathLike[str] | None = None, verbose: bool = False
    ) -> None:
        """Makes the net ready to run; a CompilerError if there is no compiler or it fails.

        Args:
            opt_level: Optimization level of the C compiler, 0 to 3.
            save_lib_path: Where to keep a library of compiled C, for `load` or other programs; by default none is made
                unless the engine is ``"c"``.
            verbose: Print what is done.
        """
        if self.circuit is None:
            raise RuntimeError("this net was loaded from a library, compiled already")
        self._opt_level = opt_level
        say = print if verbose or self.verbose else lambda *_: None
        if self.engine != "c":
            engine = self.circuit.compile(self.engine)
            say(f"CompiledLogicNet: {engine.name} engine built in {engine.build_seconds:.3f} s")
            self._run = engine
        if self.engine == "c" or save_lib_path is not None:
            with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
                # A loaded library stays mapped after its file is gone; the temporary one is never seen again.
                path = Path(save_lib_path) if save_lib_path is not None else Path(folder) / "net.so"
                command = compile_source(self.get_c_code(), path, compiler=self.cpu_compiler, opt_level=opt_level)
                say(f"CompiledLogicNet: {' '.join(command)} -> {path}")
                if self.engine == "c":
                    self._run = CompiledCircuit(path).scores

    def __getstate__(self) -> dict[str, Any]:
        # The library of an own compilation may be gone, as a temporary one is: a copy compiles anew.
        return self.__dict__ if self.circuit is None or self.engine != "c" else {**self.__dict__, "_run": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self._run is None and self._opt_level is not None:
            self.compile(self._opt_level)

    @staticmethod
    def load(save_lib_path: str | os.PathLike[str], num_classes: int, num_bits: int) -> CompiledLogicNet:
        """Loads a library that `compile` saved; a CompilerError or ValueError if it is not of these classes or bits."""
        compiled = CompiledCircuit(save_lib_path)
        if (compiled.num_classes, compiled.word_bits) != (num_classes, num_bits):
            found = f"{compiled.num_classes} classes and {compiled.word_bits} bits"
            raise ValueError(f"{save_lib_path} was compiled for {found}, not for {num_classes} and {num_bits}")
        net = CompiledLogicNet(None, num_bits=num_bits)
        net.num_classes = num_classes
        net._run = compiled.scores
        return net

    def forward(self, x: torch.Tensor | NDArray[np.bool_], verbose: bool = False) -> torch.Tensor:
        """Scores of samples, int32 ``[N, classes]``: sums of the output bits, not divided by tau.

        ``x`` is bool ``[N, inputs]``, or uint8 pixels where the net begins with a threshold encoder, else a
        CircuitError; a RuntimeError if the net is not compiled. ``verbose`` prints the shapes.
        """
        if self._run is None:
            raise RuntimeError("the net is not compiled: call compile() first")
        scores = torch.from_numpy(self._run(x))
        if verbose:
            print(f"CompiledLogicNet: {tuple(x.shape)} -> {tuple(scores.shape)}")
        return scores
