"""Decides which kernels run: finds, builds and loads the native extension on first use.

``LGN_BACKEND`` chooses: ``auto`` (native where it can be had, else plain torch with one warning), ``torch`` (never
native), ``cpu`` or ``cuda`` (native on that device, or an error). ``LGN_CACHE_DIR`` is where builds are kept.
"""

import ctypes
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import torch

from lgn_lightning.base import native_build
from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.instruction_sets import best_set
from lgn_lightning.base.native_build import BuildError
from lgn_lightning.ops import cpu_build, cuda_build

BACKENDS = ("auto", "torch", "cpu", "cuda")
_BUILDS = {"cpu": cpu_build.build, "cuda": lambda: native_build.build(cuda_build.make_plan())}


class BackendError(LgnError, RuntimeError):
    """A backend was asked for by name and cannot be had; the message names cause and cure."""


class _State:
    """What this process has loaded and why not; forked workers inherit it together with the library."""

    lock = threading.Lock()
    libraries: dict[str, Path] = {}  # noqa: RUF012 - shared on purpose
    answers: dict[tuple[str, str], bool] = {}  # noqa: RUF012 - shared on purpose


os.register_at_fork(after_in_child=lambda: setattr(_State, "lock", threading.Lock()))


def backend() -> str:
    """The value of ``LGN_BACKEND``, ``auto`` if it is not set; a BackendError if it is not one of the choices."""
    asked = os.environ.get("LGN_BACKEND") or "auto"
    if asked not in BACKENDS:
        raise BackendError(f"LGN_BACKEND={asked} is not one of {', '.join(BACKENDS)}")
    return asked


def ensure_loaded(device_type: str) -> bool:
    """Whether native kernels for a type of device (``"cuda"``) are loaded; builds and loads them on the first call.

    False if the reference has to do: no native kernels for the device, or none wanted. A BackendError if
    ``LGN_BACKEND`` names the device and its kernels cannot be had.
    """
    asked = backend()
    answer = _State.answers.get((asked, device_type))
    if answer is not None:
        return answer
    if asked == "torch" or device_type not in _BUILDS:
        return False
    try:
        require(device_type)
    except BackendError as error:
        if asked == device_type:
            raise
        with _State.lock:
            told = (asked, device_type) in _State.answers
            _State.answers[asked, device_type] = False
        if not told:
            slow = f"running in plain torch, several times slower than the native kernels: {error}"
            warnings.warn(f"{slow}. LGN_BACKEND=torch silences this", stacklevel=2)
        return False
    _State.answers[asked, device_type] = True
    return True


def require(device_type: str) -> None:
    """Builds and loads the native kernels of a device, whatever ``LGN_BACKEND`` says; else a BackendError."""
    if device_type not in _BUILDS:
        raise BackendError(f"there are no native kernels for {device_type}; leave LGN_BACKEND=auto")
    with _State.lock:
        if device_type in _State.libraries:
            return
        library = None
        try:
            library = _BUILDS[device_type]()
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except BuildError as error:
            raise BackendError(str(error)) from None
        except OSError as error:
            raise BackendError(f"{library} cannot be loaded ({error}); remove its folder and try again") from None
        _State.libraries[device_type] = library


def build(cuda: bool = False, every_set: bool = False, verbose: bool = False) -> Path:
    """Builds the native kernels now, unless that was done before, and returns the library, else a BackendError.

    With ``cuda`` those of CUDA: for the visible GPUs, or where none is, for each architecture that
    ``TORCH_CUDA_ARCH_LIST`` names, of which the last one's library is returned. With ``every_set`` those of all
    instruction sets, not of this processor alone. ``verbose`` shows the compiler's output.
    """
    try:
        if not cuda:
            return cpu_build.build(every_set, verbose)
        archs = cuda_build.architectures()
        # One library each where no GPU is: a machine looks for the one of its own GPUs.
        for chosen in [archs] if torch.cuda.is_available() else [(arch,) for arch in archs]:
            library = native_build.build(cuda_build.make_plan(chosen), verbose=verbose)
        return library
    except BuildError as error:
        raise BackendError(str(error)) from error


def report() -> dict[str, Any]:
    """What ``lgn doctor`` says of the extension, without building anything; None for what is not known."""
    facts: dict[str, Any] = {"backend": os.environ.get("LGN_BACKEND") or "auto"}
    facts["cache folder"] = str(native_build.cache_roots()[0])
    facts |= dict.fromkeys(("compiler", "build key", "native cpu", "instruction set", "native cuda"))
    try:
        facts["backend"] = backend()
        facts["compiler"], _ = native_build.find_compiler()
        library = _State.libraries.get("cpu") or cpu_build.find_library()
        facts["build key"] = library.parent.name if library else cpu_build.make_plan(best_set()).key
        facts["native cpu"] = f"built: {library}" if library else "not built yet: the first use or lgn build does it"
        if library is not None:
            facts["instruction set"] = instruction_set(library)
    except LgnError as error:
        facts["native cpu"] = f"no: {error}"
    except OSError as error:
        facts["native cpu"] = f"broken: {error}; remove its folder in the cache folder"
    try:
        library = _State.libraries.get("cuda") or native_build.find_library(cuda_build.make_plan())
        facts["native cuda"] = f"built: {library}" if library else "not built yet: the first use or lgn build --cuda"
    except LgnError as error:
        facts["native cuda"] = f"no: {error}"
    return facts


def instruction_set(library: Path) -> str:
    """Asks a built library which of its kernels this processor gets; an OSError if it cannot be loaded."""
    ask = ctypes.CDLL(str(library)).lgn_cpu_isa
    ask.restype = ctypes.c_char_p
    return str(ask().decode())
