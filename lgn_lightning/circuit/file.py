r"""The circuit file: magic, version, a JSON header, the arrays, and a SHA-256 over all of it.

Layout, all integers little-endian::

    8 bytes   b"LGNCIRC\n"
    4 bytes   format version
    4 bytes   length of the header
    header    JSON: counts, class names, encoder, and for each array its name, dtype and length
    arrays    one after another, without padding
    32 bytes  SHA-256 of everything before

Nothing in it is executed when it is read, and no length in it is trusted before the checksum agrees.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np

from lgn_lightning.circuit.netlist import Circuit, CircuitError
from lgn_lightning.files import atomic_write_bytes

MAGIC: Final = b"LGNCIRC\n"
VERSION: Final = 1
SUFFIX: Final = ".lgn"

_PREFIX = struct.Struct("<8sII")
_DIGEST = hashlib.sha256().digest_size
_ARRAYS: Final = {"gates": "<u1", "a": "<i4", "b": "<i4", "c": "<i4", "outputs": "<i4", "levels": "<u1"}


def circuit_to_bytes(circuit: Circuit) -> bytes:
    """Returns the contents of a circuit file; equal circuits give equal bytes."""
    arrays = {name: getattr(circuit, name) for name in _ARRAYS if getattr(circuit, name) is not None}
    header = {
        "num_inputs": circuit.num_inputs,
        "num_classes": circuit.num_classes,
        "tau": circuit.tau,
        "image_shape": circuit.image_shape,
        "class_names": circuit.class_names,
        "arrays": [[name, array.size] for name, array in arrays.items()],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    body = b"".join(
        [_PREFIX.pack(MAGIC, VERSION, len(text)), text]
        + [array.astype(_ARRAYS[name], copy=False).tobytes() for name, array in arrays.items()]
    )
    return body + hashlib.sha256(body).digest()


def circuit_from_bytes(data: bytes, source: str = "circuit file") -> Circuit:
    """Reads the contents of a circuit file.

    Args:
        data: The bytes.
        source: What to call them in an error.

    Raises:
        CircuitError: If they are no circuit file, of a later version, truncated or corrupt.
    """
    if len(data) < _PREFIX.size + _DIGEST or not data.startswith(MAGIC):
        raise CircuitError(f"{source} is not a circuit file (it does not begin with {MAGIC!r}, or is too short)")
    _, version, length = _PREFIX.unpack_from(data)
    if version > VERSION:
        raise CircuitError(f"{source} has format version {version}; this release reads up to {VERSION}: update it")
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise CircuitError(f"{source} is truncated or corrupt: its SHA-256 does not agree; export the circuit again")
    try:
        header = json.loads(body[_PREFIX.size : _PREFIX.size + length])
        arrays = _read_arrays(body, _PREFIX.size + length, header["arrays"])
        shape, names = header["image_shape"], header["class_names"]
        return Circuit(
            num_inputs=int(header["num_inputs"]),
            num_classes=int(header["num_classes"]),
            tau=float(header["tau"]),
            image_shape=None if shape is None else (int(shape[0]), int(shape[1]), int(shape[2])),
            class_names=None if names is None else tuple(map(str, names)),
            **arrays,
        )
    except CircuitError as error:
        raise CircuitError(f"{source} holds no valid circuit: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CircuitError(f"{source} has a header that cannot be read: {error!r}") from error


def _read_arrays(body: bytes, offset: int, listing: list[tuple[str, int]]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name, size in listing:
        dtype = np.dtype(_ARRAYS[name])
        arrays[name] = np.frombuffer(body, dtype, size, offset).astype(dtype.newbyteorder("="))
        offset += size * dtype.itemsize
    if offset != len(body):
        raise ValueError(f"{len(body) - offset} bytes are left over")
    return arrays


def save_circuit(circuit: Circuit, path: str | os.PathLike[str]) -> None:
    """Writes a circuit file atomically."""
    atomic_write_bytes(path, circuit_to_bytes(circuit))


def load_circuit(path: str | os.PathLike[str]) -> Circuit:
    """Reads a circuit file; see `circuit_from_bytes` for the errors."""
    return circuit_from_bytes(Path(path).read_bytes(), str(path))
