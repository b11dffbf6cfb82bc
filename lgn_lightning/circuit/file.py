r"""The circuit file: magic, version, a JSON header, the arrays, and a SHA-256 over all of it.

Layout, all integers little-endian::

    8 bytes   b"LGNCIRC\n"
    4 bytes   format version
    4 bytes   length of the header
    header    JSON: counts, class names, encoder, preparation of images, and for each array its name, dtype and length
    arrays    one after another, without padding
    32 bytes  SHA-256 of everything before

Nothing in it is executed when it is read, and no length in it is trusted before the checksum agrees.

What the scores say is in the header, ``decoding``, unless it is the class of the highest; the format version is then 3.
Likewise a circuit on a table's columns has format version 3; the header has the columns, and the arrays ``column``,
``op`` and ``constant`` are its comparisons, see `lgn_lightning.base.columns`.

A sequential circuit has format version 4: the header says in ``sequence`` how sequences are scored, and the arrays are
those of its step and ``initial``, see `lgn_lightning.circuit.net.sequential`.

A looped circuit has format version 2, or 3: the header lists its stages, ``gates`` or ``loop`` with the places, and the
arrays of stage *i* are named ``i.gates``, ``i.a``, …; those without a number are the tail's.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from lgn_lightning.base.columns import Comparisons, columns_of_text
from lgn_lightning.base.files import atomic_write_bytes
from lgn_lightning.circuit.net.decoding import ARGMAX, Decoding
from lgn_lightning.circuit.net.kernel import Places
from lgn_lightning.circuit.net.looped import Gates, Loop, LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.net.sequential import SequentialNetlist

MAGIC: Final = b"LGNCIRC\n"
VERSION: Final = 4
SUFFIX: Final = ".lgn"

_PREFIX = struct.Struct("<8sII")
_DIGEST = hashlib.sha256().digest_size
_ARRAYS: Final = (
    dict.fromkeys(("gates", "levels", "op", "initial"), "<u1")
    | dict.fromkeys(("a", "b", "c", "outputs", "wires", "column"), "<i4")
    | {"constant": "<i8"}
)
_COMPARISONS: Final = ("column", "op", "constant")
_PLACES: Final = tuple(part.name for part in fields(Places))


#: A circuit of any form.
AnyNetlist: TypeAlias = Netlist | LoopedNetlist | SequentialNetlist


def circuit_to_bytes(circuit: AnyNetlist) -> bytes:
    """Returns the contents of a circuit file; equal circuits give equal bytes."""
    stages: list[dict[str, Any]] = []
    looped = isinstance(circuit, LoopedNetlist)
    tail, all_stages = (circuit.tail, circuit.stages) if isinstance(circuit, LoopedNetlist) else (circuit, ())
    if isinstance(circuit, SequentialNetlist):
        arrays = _arrays_of(circuit.step) | _arrays_of(circuit, ("initial",))
    else:
        arrays = _arrays_of(tail)
    arrays |= _arrays_of(circuit, ("levels",)) | _arrays_of(circuit.comparisons, _COMPARISONS)
    for number, stage in enumerate(all_stages):
        if isinstance(stage, Loop):
            places = {name: getattr(stage.places, name) for name in _PLACES}
            stages.append({"kind": "loop", "channels": len(stage.wires), **places})
            found = _arrays_of(stage.kernel) | _arrays_of(stage, ("wires",))
        else:
            stages.append({"kind": "gates"})
            found = _arrays_of(stage)
        arrays |= {f"{number}.{name}": array for name, array in found.items()}
    names = ("num_inputs", "num_classes", "tau", "image_shape", "class_names")
    header: dict[str, Any] = {name: getattr(circuit, name) for name in names}
    header["arrays"] = [[name, array.size] for name, array in arrays.items()]
    if circuit.preparation is not None:
        header["preparation"] = circuit.preparation
    if circuit.decoding != ARGMAX:
        header["decoding"] = circuit.decoding.to_dict()
    if circuit.comparisons is not None:
        header["columns"] = json.loads(circuit.comparisons.columns_text())
    if isinstance(circuit, SequentialNetlist):
        header["sequence"] = {"readout": circuit.readout, "scan": circuit.scan}
    text = json.dumps(header | ({"stages": stages} if looped else {}), separators=(",", ":")).encode()
    oldest = 4 if "sequence" in header else 3 if header.keys() & {"decoding", "columns"} else 2 if looped else 1
    prefix = _PREFIX.pack(MAGIC, oldest, len(text))
    parts = (array.astype(_dtype(name), copy=False).tobytes() for name, array in arrays.items())
    body = b"".join([prefix, text, *parts])
    return body + hashlib.sha256(body).digest()


def _arrays_of(part: object, names: Iterable[str] = ("gates", "a", "b", "c", "outputs")) -> dict[str, Any]:
    arrays = {name: getattr(part, name, None) for name in names}
    return {name: array for name, array in arrays.items() if array is not None}


def _dtype(name: str) -> str:
    return _ARRAYS[name.rpartition(".")[2]]


def circuit_from_bytes(data: bytes, source: str = "circuit file") -> AnyNetlist:
    """Reads a circuit file; a CircuitError that names the ``source`` if it is none, of a later version or corrupt."""
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
        shape, names, preparation = header["image_shape"], header["class_names"], header.get("preparation")
        encoding: dict[str, Any] = {
            "levels": arrays.pop("levels", None),
            "image_shape": None if shape is None else (int(shape[0]), int(shape[1]), int(shape[2])),
            "preparation": None if preparation is None else str(preparation),
            "comparisons": _read_comparisons(header, arrays),
        }
        parts = [
            {name: arrays.pop(f"{i}.{name}") for name in _ARRAYS if f"{i}.{name}" in arrays}
            for i in range(len(header.get("stages", ())))
        ]
        about: dict[str, Any] = {
            "num_classes": int(header["num_classes"]),
            "tau": float(header["tau"]),
            "class_names": None if names is None else tuple(map(str, names)),
            "decoding": Decoding(**header.get("decoding", {})),
        }
        if not 0 < about["tau"] < math.inf:
            raise ValueError(f"tau is {about['tau']}")
        inputs = int(header["num_inputs"])
        if "sequence" in header:
            return _read_sequential(inputs, header["sequence"], arrays, about, encoding)
        if "stages" not in header:
            return Netlist(num_inputs=inputs, **about, **arrays, **encoding)
        stages = [_read_stage(*pair) for pair in zip(header["stages"], parts, strict=True)]
        nodes = inputs + sum(stage.num_nodes for stage in stages)
        return LoopedNetlist(inputs, tuple(stages), Netlist(num_inputs=nodes, **about, **arrays), **encoding)
    except CircuitError as error:
        raise CircuitError(f"{source} holds no valid circuit: {error}") from error
    except Exception as error:  # a right checksum says nothing of who made the header
        raise CircuitError(f"{source} has a header that cannot be read: {error!r}") from error


def _read_sequential(
    inputs: int, form: dict[str, Any], arrays: dict[str, Any], about: dict[str, Any], encoding: dict[str, Any]
) -> SequentialNetlist:
    initial = arrays.pop("initial")
    if initial.size and initial.max() > 1:
        raise ValueError("a bit of the initial state is neither 0 nor 1")
    step = Netlist(num_inputs=inputs + initial.size, num_classes=arrays["outputs"].size, **arrays)
    scan = None if form["scan"] is None else str(form["scan"])
    parts = {"step": step, "initial": initial.astype(np.bool_), "readout": str(form["readout"]), "scan": scan}
    return SequentialNetlist(inputs, **parts, **about, **encoding)


def _read_comparisons(header: dict[str, Any], arrays: dict[str, Any]) -> Comparisons | None:
    if "columns" not in header:
        return None
    columns = columns_of_text(json.dumps(header["columns"]))
    return Comparisons(columns, *(arrays.pop(name) for name in _COMPARISONS))


def _read_stage(about: dict[str, Any], arrays: dict[str, Any]) -> Gates | Loop:
    if about["kind"] == "gates":
        return Gates(**arrays)
    if about["kind"] != "loop":
        raise ValueError(f"a stage of the kind {about['kind']!r} is not known")
    pairs = {name: (int(about[name][0]), int(about[name][1])) for name in _PLACES}
    places, channels = Places(**pairs), int(about["channels"])
    wires, outputs = arrays.pop("wires").reshape(channels, *places.image), arrays["outputs"]
    inputs = channels * places.kernel[0] * places.kernel[1]
    return Loop(Netlist(num_inputs=inputs, num_classes=outputs.size, **arrays), wires, places)


def _read_arrays(body: bytes, offset: int, listing: list[tuple[str, int]]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name, size in listing:
        dtype = np.dtype(_dtype(name))
        arrays[name] = np.frombuffer(body, dtype, size, offset).astype(dtype.newbyteorder("="))
        offset += size * dtype.itemsize
    if offset != len(body):
        raise ValueError(f"{len(body) - offset} bytes are left over")
    return arrays


def save_circuit(circuit: AnyNetlist, path: str | os.PathLike[str]) -> None:
    atomic_write_bytes(path, circuit_to_bytes(circuit))


def read_circuit(path: str | os.PathLike[str]) -> AnyNetlist:
    """Reads a circuit file; see `circuit_from_bytes` for the errors."""
    return circuit_from_bytes(Path(path).read_bytes(), str(path))
