"""Circuit files with a right checksum and wrong content: one error, or a circuit that every engine runs alike."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, OrPool2d, Threshold
from lgn_lightning.circuit import Circuit, CircuitError, LoopedCircuit
from lgn_lightning.circuit.api import load_circuit
from lgn_lightning.nn import EdgeChannels, LogicSequential
from tests.circuit.random_circuits import random_circuit
from tests.soak.workers import Outcome, Tally, raised, run_seeds

_PREFIX: Final = struct.Struct("<8sII")
_SIZES: Final = {"gates": 1, "levels": 1}
#: A good circuit of more inputs is not run: its samples alone take gigabytes.
_MOST_INPUTS: Final = 1 << 22
_PLACES: Final = ("image", "kernel", "stride", "padding", "window", "window_stride")

#: Stand-ins for JSON that `json.dumps` cannot write; they are replaced in the text.
_RAW: Final = {
    "@deep": "[" * 5_000 + "]" * 5_000,
    "@deep-map": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "@digits": "9" * 5_000,
    "@float": "1e999",
    "@minus": "-0",
    "@surrogate": '"\\ud800"',
}


def _values(chance: random.Random) -> Any:
    """One of the values that a reader may not expect."""
    return chance.choice(
        [
            *(None, True, False, "", "x", "4", "nan", "٣", " 5 ", "1_0", [], {}, [[]], [None], {"a": 1}),
            *(0, 1, 2, 3, -1, -(2**31), 2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63, 2**64, 10**30),
            *(0.0, -0.0, 0.5, 1.5, -1.0, 1e-320, 1e308, math.inf, -math.inf, math.nan, 2.0**40),
            *([1, 2], [1, 2, 3, 4], [0, 0, 0], [-1, -3, 10], [1 << 20, 1 << 20, 1 << 20], ["1", "3", "5"], "135"),
            *("a" * 100_000, "\x00", "\n", "../x", "%s%n", *_RAW),
            chance.randrange(-5, 300),
            2 ** chance.randrange(70) + chance.choice((-1, 0, 1)),
        ]
    )


@cache
def originals() -> list[bytes]:
    """Files of good circuits: flat, with an encoder, of three-input gates, and looped."""
    circuits: list[Circuit | LoopedCircuit] = [
        random_circuit(1, inputs=5, gates=20, classes=2, group=3),
        random_circuit(2, inputs=1, gates=0, classes=1, group=1),
        random_circuit(3, inputs=30, gates=200, levels=[63, 200], image_shape=(1, 3, 5), classes=3, group=4)
        .with_class_names(("cat", 'a "b" ??/\\', "größe"))
        .with_preparation("resize"),
        random_circuit(4, inputs=16, gates=80, arity=3),
        random_circuit(5, inputs=12, gates=300, classes=10, group=20),
    ]
    for seed in range(3):
        torch.manual_seed(seed)
        circuits.append(LoopedCircuit.from_module(_convolution(seed)).with_preparation("resize" if seed else None))
    return [_saved(circuit).read_bytes() for circuit in circuits]


@cache
def _file() -> Path:
    """A file of this process."""
    return Path(tempfile.mkdtemp(prefix="soak-")) / "net.lgn"


def _saved(circuit: Circuit | LoopedCircuit) -> Path:
    circuit.save(_file())
    return _file()


def _convolution(seed: int) -> nn.Module:
    shape = (1 + seed, 5, 6)
    net = LogicSequential(Threshold([0.3, 0.6], shape, flatten=False))
    channels = 2 * shape[0]
    if seed == 1:
        net.append(EdgeChannels(2, shape))
        channels = net[-1].out_shape[0]
    conv = LogicTreeConv2d(channels, 3, (2, 3), 2, (0, 1), (1, 1 + seed % 2), 2, init="gaussian")
    size = conv.output_size(5, 6)
    net.append(conv)
    if seed != 1:
        net.append(OrPool2d((2, 2) if seed else (2, 1), (2, 2) if seed == 2 else (1, 1)))
        size = net[-1].output_size(*size)
    features = 3 * size[0] * size[1]
    net += LogicSequential(nn.Flatten(), LogicLayer(features, 2 * features, init="gaussian"), GroupSum(2))
    return net.eval()


class Forgery:
    """A circuit file in parts that can be changed one by one.

    Args:
        data: A good file.
    """

    def __init__(self, data: bytes) -> None:
        _, self.version, length = _PREFIX.unpack_from(data)
        self.header: Any = json.loads(data[_PREFIX.size : _PREFIX.size + length])
        self.arrays: list[tuple[str, np.ndarray]] = []
        offset = _PREFIX.size + length
        for name, size in self.header["arrays"]:
            dtype = np.dtype("<u1" if _SIZES.get(name.rpartition(".")[2]) else "<i4")
            self.arrays.append((name, np.frombuffer(data, dtype, size, offset).copy()))
            offset += size * dtype.itemsize
        self.extra = b""
        self.cut = 0
        self.length_off = 0
        self.text: Callable[[bytes], bytes] = lambda text: text

    def bytes(self) -> bytes:
        """The file, with its checksum."""
        text = json.dumps(self.header, separators=(",", ":"))
        for name, raw in _RAW.items():
            text = text.replace(json.dumps(name), raw)
        head = self.text(text.encode())
        body = _PREFIX.pack(b"LGNCIRC\n", self.version, max(0, len(head) + self.length_off) & 0xFFFFFFFF) + head
        body += b"".join(array.tobytes() for _, array in self.arrays) + self.extra
        body = body[: len(body) - self.cut] if self.cut else body
        return body + hashlib.sha256(body).digest()


def _change_header(forgery: Forgery, chance: random.Random) -> None:
    keys = [key for key in forgery.header if key != "stages"]
    key = chance.choice([*keys, "preparation", "class_names", "tau", "num_classes", "num_inputs"])
    kind = chance.randrange(6)
    if kind == 0 and key in forgery.header:
        del forgery.header[key]
    elif kind == 1 and key in forgery.header:
        forgery.header[chance.choice([key.upper(), key + " ", "", "__class__"])] = forgery.header.pop(key)
    elif kind == 2:
        written, repeated = json.dumps(key), json.dumps(str(_values(chance)))
        forgery.text = lambda text: text.replace(b"{", f"{{{written}:{repeated},".encode(), 1)
    else:
        forgery.header[key] = _values(chance)


def _change_inside(forgery: Forgery, chance: random.Random) -> None:
    lists = [v for k, v in forgery.header.items() if isinstance(v, list) and v and k not in ("arrays", "stages")]
    if lists:
        chosen = chance.choice(lists)
        chosen[chance.randrange(len(chosen))] = _values(chance)


def _change_listing(forgery: Forgery, chance: random.Random) -> None:
    listing = forgery.header.get("arrays")
    if not isinstance(listing, list) or not listing:
        return
    place = chance.randrange(len(listing))
    entry = listing[place]
    kind = chance.randrange(9)
    if kind == 0:
        listing[place] = _values(chance)
    elif kind == 1 and isinstance(entry, list):
        entry[chance.randrange(len(entry))] = _values(chance)
    elif kind == 2:
        listing.append(copy.deepcopy(entry))
    elif kind == 3:
        chance.shuffle(listing)
    elif kind == 4:
        del listing[place]
    elif kind == 5:
        listing.append([_values(chance), chance.choice((0, 1, -1, 4))])
    elif kind == 6 and isinstance(entry, list) and len(entry) > 1 and isinstance(entry[1], int):
        entry[1] += chance.choice((-1, 1, 4, -(1 << 31), 1 << 33))
    elif kind == 7 and isinstance(entry, list) and entry:
        names = [
            "gates",
            "a",
            "b",
            "c",
            "outputs",
            "levels",
            "wires",
            "0.gates",
            "9.a",
            ".a",
            "a.",
            "1.2.a",
            "0.levels",
        ]
        entry[0] = chance.choice(names)
    else:
        forgery.header["arrays"] = {str(pair[0]): pair[-1] for pair in listing if isinstance(pair, list) and pair}


def _change_stages(forgery: Forgery, chance: random.Random) -> None:
    stages = forgery.header.get("stages")
    if not isinstance(stages, list) or not stages:
        forgery.header["stages"] = _values(chance)
        return
    place = chance.randrange(len(stages))
    stage = stages[place]
    kind = chance.randrange(7)
    if kind == 0 or not isinstance(stage, dict):
        stages[place] = _values(chance)
    elif kind == 1:
        stages.append(copy.deepcopy(stage))
    elif kind == 2:
        del stages[place]
    elif kind == 3:
        chance.shuffle(stages)
    elif kind == 4:
        stage["kind"] = chance.choice(["gates", "loop", "GATES", "", None, 1])
    elif kind == 5:
        stage[chance.choice([*_PLACES, "channels"])] = _values(chance)
    else:
        pair = stage.get(chance.choice(_PLACES))
        if isinstance(pair, list) and pair:
            small = [0, 1, 2, 3, 4, -1, 1 << 20, 1 << 31, 1 << 62, 1.5, None]
            pair[chance.randrange(len(pair))] = chance.choice(small)


def _change_array(forgery: Forgery, chance: random.Random) -> None:
    place = chance.randrange(len(forgery.arrays))
    name, array = forgery.arrays[place]
    kind = chance.randrange(8)
    if kind < 4 and array.size:
        for _ in range(chance.choice((1, 1, 3))):
            node = chance.randrange(array.size)
            limits = np.iinfo(array.dtype)
            value = chance.choice([limits.min, limits.max, -1, 0, 15, 16, 255, int(array.max()) + 1, node, array.size])
            array[node] = min(max(value, limits.min), limits.max)
    elif kind == 4:
        array[:] = np.random.default_rng(chance.randrange(1 << 30)).integers(0, 256, array.size)
    elif kind == 5:
        chance_order = np.random.default_rng(chance.randrange(1 << 30)).permutation(array.size)
        array[:] = array[chance_order]
    else:  # another length, which the header agrees with or not
        longer = np.resize(array, max(0, array.size + chance.choice((-2, -1, 1, 2, 7, -array.size))))
        forgery.arrays[place] = (name, longer.astype(array.dtype))
        if kind == 6 and isinstance(forgery.header.get("arrays"), list) and place < len(forgery.header["arrays"]):
            forgery.header["arrays"][place] = [name, int(longer.size)]


def _add_array(forgery: Forgery, chance: random.Random) -> None:
    if not isinstance(forgery.header.get("arrays"), list):
        return
    name = chance.choice(["c", "levels", "wires", "0.gates", "0.c", "0.wires", "1.outputs", "7.gates", "0.levels"])
    dtype = "<u1" if _SIZES.get(name.rpartition(".")[2]) else "<i4"
    size = chance.choice([0, 1, 2, *(array.size for _, array in forgery.arrays)])
    forgery.arrays.append((name, np.zeros(size, dtype)))
    forgery.header["arrays"].append([name, int(size)])


def _change_frame(forgery: Forgery, chance: random.Random) -> None:
    kind = chance.randrange(7)
    if kind == 0:
        forgery.version = chance.choice((0, 1, 2, 3, 0xFFFFFFFF))
    elif kind == 1:
        forgery.extra = bytes(chance.choice((1, 3, 4, 1000)))
    elif kind == 2:
        forgery.cut = chance.choice((1, 4, 17, 200))
    elif kind == 3:
        forgery.length_off = chance.choice((-1, 1, 4, -10_000, 1 << 31))
    elif kind == 4:
        forgery.header = chance.choice([[], None, 3, "x", [forgery.header]])
    elif kind == 5:
        added = chance.choice([b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b" ", b"\n"])
        forgery.text = lambda text: added + text
    else:
        place = chance.random()
        forgery.text = lambda text: text[: int(place * len(text))]


_CHANGES: Final = (
    *(_change_header, _change_header, _change_inside, _change_listing, _change_listing, _change_stages),
    *(_change_stages, _change_array, _change_array, _change_array, _add_array, _change_frame),
)


def forge(seed: int) -> bytes:
    """A forged file with a right checksum; the same for the same seed."""
    chance = random.Random(seed)
    forgery = Forgery(chance.choice(originals()))
    changes = [chance.choice(_CHANGES) for _ in range(chance.choice((1, 1, 2, 3)))]
    for change in sorted(changes, key=lambda change: change is _change_frame):
        if isinstance(forgery.header, dict):
            change(forgery, chance)
    return forgery.bytes()


def check(seed: int) -> Outcome:
    """Reads a forged file, and if it can be read, compares what numpy and the engines make of the circuit."""
    return check_file(forge(seed), seed)


def check_file(data: bytes, seed: int) -> Outcome:
    """See `check`."""
    _file().write_bytes(data)
    try:
        circuit = load_circuit(_file())
    except CircuitError as error:
        return Outcome("refused", str(error))
    except Exception as error:
        return raised(error)
    if not (math.isfinite(circuit.tau) and circuit.tau > 0):
        return Outcome("wrong", "a circuit is read whose tau is no positive number", "circuit.file")
    if load_circuit(_saved(circuit)) != circuit:
        return Outcome("wrong", "a circuit that was read is another one when it is written and read again")
    return _compare(circuit, seed)


def _compare(circuit: Circuit | LoopedCircuit, seed: int) -> Outcome:
    if circuit.num_inputs > _MOST_INPUTS:
        return Outcome("valid", "too wide to run here")
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 2, (70, circuit.num_inputs)).astype(bool)
    images = None
    if circuit.num_pixels is not None:
        images = rng.integers(0, 256, (70, circuit.num_pixels)).astype(np.uint8)
    if isinstance(circuit, Circuit) and circuit.arity == 3:
        circuit.scores(samples)
        return Outcome("valid")
    forms: list[tuple[str, Any]] = [
        ("machine code", lambda: circuit.compile("auto")),
        ("interpreter", lambda: circuit.compile("interpreter")),
    ]
    if isinstance(circuit, LoopedCircuit):
        forms.append(("unrolled", circuit.unroll))
    for name, make in forms:
        engine = make()
        for x in (samples,) if images is None else (samples, images):
            scores = engine.scores(x) if hasattr(engine, "scores") else engine(x)
            if not np.array_equal(scores, circuit.scores(x)):
                return Outcome("wrong", f"the scores of {name} differ from numpy's", name)
    return Outcome("valid")


def save(seed: int, path: Path) -> Path:
    """Writes a case to a file."""
    file = path.with_suffix(".lgn")
    file.write_bytes(forge(seed))
    return file


def run(count: int, first: int = 0) -> Tally:
    """Reads so many forged files."""
    return run_seeds(Tally("forged circuits"), check, range(first, first + count), save)
