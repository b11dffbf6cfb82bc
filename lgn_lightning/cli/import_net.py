"""``lgn import``: the net that another library trained as a checkpoint of this one."""

import argparse
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lgn_lightning.base.errors import LgnError, UsageError
from lgn_lightning.base.files import atomic_path
from lgn_lightning.cli.quiet import hush

LIBRARIES: Final = ("torchlogix", "silogic", "convlogic", "compactlogic")
#: Random samples that a net is tried with.
_SAMPLES: Final = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Turn the state dict of another library into a checkpoint with the same scores, which every command takes. "
        "What a state dict does not hold is given by options, or by the library's own module."
    )
    parser.add_argument("library", choices=LIBRARIES, help="what trained the net")
    parser.add_argument("source", type=Path, help="its state dict, written by torch.save; only tensors are read")
    parser.add_argument("--out", type=Path, help="checkpoint to write (default: beside the source, .ckpt)")
    text = "class or function that makes the torchlogix module; its code runs, and its sizes replace the options below"
    parser.add_argument("--module", metavar="PACKAGE.NAME", help=text)
    parser.add_argument("--classes", type=int, help="number of classes")
    parser.add_argument("--tau", type=float, default=1.0, help="what the sums are divided by (default: 1)")
    parser.add_argument("--beta", type=float, default=0, help="what is added to them (default: 0)")
    parser.add_argument("--in-shape", type=_numbers, metavar="C,H,W", help="shape of an image (default: bits)")
    parser.add_argument("--inputs", type=int, help="number of bits (default: those that the first layer reads)")
    for name, text in (
        ("kernels", "receptive fields of the convolutions"),
        ("paddings", "zeros around the image of each convolution"),
        ("strides", "steps of each convolution (default: 1)"),
        ("pools", "pooling behind each convolution, 0 for none"),
    ):
        parser.add_argument(
            f"--{name}", type=_numbers, default=(), metavar="N,N,…", help=f"{text}; one for all or each"
        )
    text = "of torchlogix, where the weights do not show it"
    parser.add_argument("--parametrization", choices=("raw", "light", "warp"), help=text)
    parser.add_argument("--temperature", type=float, default=1.0, help="of torchlogix's gates (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from lgn_lightning.models.peers.parts import Shape  # torch takes seconds to import, and bad usage needs none
    from lgn_lightning.training.imported import save_net

    hush()
    state = _state_dict(arguments.source)
    library = import_module(f"lgn_lightning.models.peers.{arguments.library}")
    peer = None
    try:
        if arguments.module is not None:
            if arguments.library != "torchlogix":
                raise UsageError("--module is for torchlogix: give --classes and the other options")
            peer = _made(arguments.module)
            peer.load_state_dict(state)
            net = library.import_module(peer.eval())
        else:
            if arguments.classes is None:
                raise UsageError("give --classes, the number of groups of the sums, or --module")
            if arguments.library != "torchlogix" and (arguments.parametrization or arguments.temperature != 1):
                raise UsageError(f"--parametrization and --temperature are for torchlogix, not {arguments.library}")
            shape = Shape(**{part.name: getattr(arguments, part.name) for part in fields(Shape)})
            net = library.import_state_dict(state, shape)
    except (ValueError, KeyError, IndexError, RuntimeError, TypeError) as error:
        if isinstance(error, LgnError):
            raise
        missing = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise LgnError(f"{arguments.source} is not imported as a net of {arguments.library}: {missing}") from error
    if peer is not None:
        _compare(peer, net)
    out = arguments.out or arguments.source.with_suffix(".ckpt")
    if out.resolve() == arguments.source.resolve():
        raise UsageError(f"{out} is the file that was read: give --out")
    with atomic_path(out) as temporary:
        save_net(net, temporary)
    gates = sum(int(layer.num_neurons) for layer in net.modules() if hasattr(layer, "num_neurons"))
    print(f"{out}: a net of {gates:,} gates with weights of their own; `lgn export {out}` writes its circuit")
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _state_dict(path: Path) -> dict[str, Any]:
    import torch  # as above

    if not path.exists():
        raise LgnError(f"there is no file {path}: give the state dict, written by torch.save(model.state_dict(), path)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or foreign file leads to
        raise LgnError(
            f"{path} is no state dict that can be read as data: write torch.save(model.state_dict(), path) there "
            f"({str(error).strip().partition(chr(10))[0] or type(error).__name__})"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    named = content.items() if isinstance(content, dict) else ()
    tensors = {name: value for name, value in named if isinstance(name, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        raise LgnError(f"{path} holds no state dict: write torch.save(model.state_dict(), path)")
    return tensors


def _made(name: str) -> Any:
    """The module of a class or function, of an installed package or of the current folder."""
    package, _, attribute = name.rpartition(".")
    sys.path.insert(0, "")
    try:
        return getattr(import_module(package), attribute)()
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--module {name}: {error}; give package.name of what makes the module") from error
    finally:
        sys.path.remove("")


def _compare(peer: Any, net: Any) -> None:
    """Compares the scores of both nets on random samples; an LgnError if one differs."""
    import torch  # as above

    shape = getattr(net[0], "in_shape", None)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        if shape is not None:
            pixels = torch.randint(0, 256, (_SAMPLES, *shape), dtype=torch.uint8)
            x, theirs = pixels, pixels.float() / 255
        else:
            size = getattr(net[0], "in_dim", None) or _image(peer)
            x = theirs = (torch.rand(_SAMPLES, *(size if isinstance(size, tuple) else (size,))) < 0.5).float()
        pairs = zip(torch.split(x, 500), torch.split(theirs, 500), strict=True)
        different = sum(int((net(a) != peer(b)).any(1).sum()) for a, b in pairs)
    if different:
        raise LgnError(f"the imported net gives other scores on {different} of {_SAMPLES} random samples: report it")
    print(f"equal scores on {_SAMPLES:,} random samples")


def _image(peer: Any) -> tuple[int, ...]:
    first = next(part for part in peer.modules() if hasattr(part, "receptive_field_size") and hasattr(part, "channels"))
    return (first.channels, *first.in_dim)
