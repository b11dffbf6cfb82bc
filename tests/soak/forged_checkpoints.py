"""Checkpoints with wrong content, saved again by torch: one error or the net, and nothing that they name is run."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import lgn_lightning
from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.deploy.trial import hard_counts
from lgn_lightning.models import LogicMLP, LogicTreeNet
from lgn_lightning.runs.checkpoints import DIGEST, digest
from tests.soak import settings
from tests.soak.workers import Outcome, Tally, Worker, out_folder, raised, run_command, run_seeds

#: Seconds that a case may take: a net of a few hundred gates, or an error.
SECONDS: Final = 20.0
#: What would start processes; the command line has the last word.
_HELD: Final = tuple(
    f"--trainer.{setting}"
    for setting in ("devices=1", "num_nodes=1", "accelerator=cpu", "strategy=auto", "enable_progress_bar=false")
)
_CANARY: Final = "canary"


# --- good checkpoints ------------------------------------------------------------------------------------------------
def write_originals(folder: str) -> None:
    """Trains the nets whose checkpoints are forged: by ``lgn fit``, and by a plain Trainer."""
    os.chdir(folder)
    small = ["--model.net.width=240", "--model.net.depth=2", "--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    outcome = run_command(["fit", "digits", *small, *quiet])
    if outcome.kind != "valid":
        raise RuntimeError(outcome.what)
    shutil.copy("runs/digits/version_0/checkpoints/best.ckpt", "fit.ckpt")
    torch.manual_seed(0)
    nets = {
        "mlp": LogicMLP((1, 6, 6), 10, 80, 2, connections="learned", parametrization="sigmoid"),
        "lut": LogicMLP((1, 6, 6), 10, 80, 2, arity=4, parametrization="sigmoid", connections="random"),
        "tree": LogicTreeNet((1, 12, 12), 10, [4, 6], [40, 20], thresholds=1),
    }
    for name, net in nets.items():
        shape = net.init_args["in_shape"]  # type: ignore[index]
        images = torch.randint(256, (20, *shape), dtype=torch.uint8)
        loader = DataLoader(TensorDataset(images, torch.arange(20) % 10), 10)
        trainer = Trainer(
            max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
        )
        trainer.fit(lgn_lightning.LogicClassifier(net, 10), loader)
        trainer.save_checkpoint(f"{name}.ckpt")


@cache
def _originals(folder: str) -> dict[str, dict[str, Any]]:
    return {file.stem: torch.load(file, weights_only=True) for file in sorted(Path(folder).glob("*.ckpt"))}


# --- forging ---------------------------------------------------------------------------------------------------------
def _values(chance: random.Random) -> Any:
    return chance.choice(
        [
            *(None, True, 0, -1, 3, 10**30, 0.5, math.nan, "abc", "", b"abc", [], {}, [1, 2], {"a": 1}, {1: 2}),
            *(torch.zeros(0), torch.zeros(()), torch.zeros(3, 4), torch.zeros(2, dtype=torch.complex64)),
            [[[[]]]],
            "a" * 100_000,
        ]
    )


def _other_tensor(x: Tensor, chance: random.Random) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: x[:-1],
        lambda: torch.cat([x, x]),
        lambda: x[:0],
        lambda: x.unsqueeze(0),
        lambda: x.flatten()[0],
        lambda: x.t() if x.ndim == 2 else x.flip(0),
        lambda: x.to(chance.choice([torch.float64, torch.float16, torch.int64, torch.int8, torch.bool, torch.uint8])),
        lambda: x.to(torch.complex64),
        lambda: x.to_sparse(),
        lambda: x.tolist(),
        lambda: str(x.tolist()),
        lambda: x.clone().fill_(math.nan if x.is_floating_point() else 0),
        lambda: torch.nn.Parameter(x) if x.is_floating_point() else x,
        lambda: x[:1].expand(x.shape),
        lambda: _values(chance),
        lambda: torch.empty(10**6, 10**5, dtype=torch.uint8, device="meta"),
    ]
    if chance.random() < 0.5 and x.numel():
        flat = x.flatten().clone()
        for _ in range(chance.choice((1, 3))):
            place = chance.randrange(flat.numel())
            if x.is_floating_point():
                flat[place] = chance.choice([math.nan, math.inf, -math.inf, 1e30, -1e30, 1e-40])
            elif x.dtype != torch.bool:
                limits = torch.iinfo(x.dtype)
                wanted = chance.choice([-1, limits.max, limits.min, 10**6, int(x.long().max()) + 1, 100_000])
                flat[place] = min(max(wanted, limits.min), limits.max)
        return flat.view(x.shape)
    return chance.choice(kinds)()


def _change_weights(content: dict[str, Any], chance: random.Random) -> None:
    state = content.get("state_dict")
    if not isinstance(state, dict) or not state:
        return
    key = chance.choice(list(state))
    kind = chance.randrange(10)
    if kind == 0:
        del state[key]
    elif kind == 1:
        state[chance.choice(["net", "net.", "net.99.weights", "", key[:-1], key + ".x", "loss.weight", 3])] = state[key]
    elif kind == 2:
        state[key] = state[chance.choice(list(state))]
    elif isinstance(state[key], Tensor):
        state[key] = _other_tensor(state[key], chance)
    else:
        state[key] = _values(chance)


def _change_content(content: dict[str, Any], chance: random.Random) -> None:
    key = chance.choice([*content, "lgn_class_names", "lgn_preparation", "lgn_recipe", "state_dict"])
    kind = chance.randrange(4)
    if kind == 0 and key in content:
        del content[key]
    elif kind == 1:
        names = [["0"] * 10, ["0"] * 9, [0] * 10, ["a\nb"] * 10, "0123456789", [""] * 10, {"a": 1}, ["*/"] * 10]
        content["lgn_class_names"] = chance.choice(names)
    elif kind == 2:
        content["lgn_preparation"] = chance.choice(["resize", "no such", "", 3, ["resize"], "*/ int x;", "a\nb"])
    else:
        content[key] = _values(chance)


def _change_recipe(content: dict[str, Any], chance: random.Random) -> None:
    text = content.get("lgn_recipe")
    if not isinstance(text, str):
        return
    if chance.random() < 0.5:
        changed = settings.change_text(text, chance, _CANARY).decode("utf-8", "replace")
        content["lgn_recipe"] = changed
        return
    recipe = _recipe_of(content)
    if recipe is None:
        return
    part = chance.choice([recipe, recipe.get("model"), recipe.get("data"), recipe.get("model")])
    settings.change_tree(part if isinstance(part, (dict, list)) else recipe, chance)
    _put_recipe(content, recipe)


def _name_code(content: dict[str, Any], chance: random.Random) -> None:
    recipe = _recipe_of(content)
    if recipe is not None:
        _name_foreign(recipe, chance)
        _put_recipe(content, recipe)


def _recipe_of(content: dict[str, Any]) -> dict[str, Any] | None:
    text = content.get("lgn_recipe")
    if not isinstance(text, str):
        return None
    if re.search(r"[\[\s:]\*\w", text):  # aliases of an earlier change: this process would never be done with them
        return None
    try:
        recipe = yaml.safe_load(text)
    except Exception:  # an earlier change made it no YAML, in one of many ways
        return None
    return recipe if isinstance(recipe, dict) else None


def _put_recipe(content: dict[str, Any], recipe: dict[str, Any]) -> None:
    with contextlib.suppress(yaml.YAMLError, RecursionError, ValueError):
        content["lgn_recipe"] = yaml.safe_dump(recipe)


def _name_foreign(recipe: dict[str, Any], chance: random.Random) -> None:
    """Names code that leaves a canary, wherever a recipe can name a class or a function."""
    touch: dict[str, Any] = {"class_path": "evil.Touch"}
    launch = {
        "class_path": "torch.distributed.launcher.api.elastic_launch",
        "init_args": {
            "config": {
                "class_path": "torch.distributed.launcher.api.LaunchConfig",
                "init_args": {"min_nodes": 1, "max_nodes": 1, "nproc_per_node": 1, "rdzv_backend": "c10d"}
                | {"rdzv_endpoint": "localhost:0", "max_restarts": 0, "start_method": "fork"},
            },
            "entrypoint": str(Path(_CANARY + ".sh").absolute()),
        },
    }
    stages = chance.choice(["test", "test", "validation", "predict"])
    hook = chance.choice(["setup", f"on_{stages}_start", f"on_{stages}_end", f"on_{stages}_batch_end", "teardown"])
    called = chance.choice([touch, launch, "evil.touch", "os.system", touch])
    trainer, model = recipe.setdefault("trainer", {}), recipe.get("model")
    places: list[Callable[[], Any]] = [
        lambda: trainer.update(
            callbacks=[
                {
                    "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                    "init_args": {hook: called},
                }
            ]
        ),
        lambda: trainer.update(callbacks=[{"class_path": "evil.Touch"}]),
        lambda: trainer.update(logger={"class_path": "evil.Touch"}),
        lambda: trainer.update(profiler={"class_path": "evil.Touch"}),
        lambda: trainer.update(plugins=[{"class_path": "evil.Touch"}]),
        lambda: trainer.update(strategy={"class_path": "evil.Touch"}),
        lambda: trainer.update(default_root_dir=f"{_CANARY}-folder"),
        lambda: trainer.update(
            logger={"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": f"{_CANARY}-folder"}}
        ),
        lambda: recipe.update(data={"class_path": chance.choice(["evil.Data", "evil.touch", "evil.Touch"])}),
    ]
    if isinstance(model, dict):
        nets = ["evil.Net", "evil.touch", "evil.Touch", "evil.No", "os.system", "subprocess.Popen", "builtins.exec"]
        in_net = {"class_path": "lgn_lightning.models.LogicMLP", "init_args": {"sampler": touch}}
        places += [
            lambda: model.update(net={"class_path": chance.choice(nets)}),
            lambda: model.update(net={"class_path": "torch.nn.Sequential", "dict_kwargs": {"args": called}}),
            lambda: model.update(net=in_net),
            lambda: model["net"].setdefault("init_args", {}).update(sampler=called),
            lambda: model["net"].setdefault("init_args", {}).update(parametrization={"class_path": "evil.Net"}),
            lambda: model.update(loss=called),
            lambda: model.update(optimizer=called),
            lambda: model.update(lr_scheduler=called),
        ]
    with contextlib.suppress(AttributeError, TypeError, KeyError):  # an earlier change left nothing to put it into
        chance.choice(places)()


def _change_state(content: dict[str, Any], chance: random.Random) -> None:
    settings.change_tree(content, chance, keep=("state_dict", "lgn_recipe"))


_CHANGES: Final = (
    *(_change_weights, _change_weights, _change_weights, _change_content, _change_recipe, _change_recipe),
    *(_change_state, _name_code, _name_code),
)


def make(seed: int, folder: str) -> tuple[dict[str, Any], list[str]]:
    """The content of a forged checkpoint, and what was done to it."""
    chance = random.Random(seed)
    originals = _originals(folder)
    changes = [chance.choice(_CHANGES) for _ in range(chance.choice((1, 1, 1, 2)))]
    # Only checkpoints of `lgn fit` name data and a trainer.
    name = "fit" if _name_code in changes and chance.random() < 0.7 else chance.choice(["fit", *originals])
    content = copy.deepcopy(originals[name])
    for change in changes:
        with contextlib.suppress(RuntimeError, IndexError, TypeError):  # what an earlier change left no place for
            change(content, chance)
    return content, [name, *(change.__name__ for change in changes)]


def _write(seed: int, content: dict[str, Any], path: Path) -> None:
    chance = random.Random(-1 - seed)
    if isinstance(content, dict):  # else the digest would refuse each change before the checks that are meant
        with contextlib.suppress(Exception):  # what cannot be signed stays as it is
            content = {**content, DIGEST: digest(content)}
    torch.save(content, path)
    if chance.random() < 0.05:  # damaged behind torch's back
        data = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 20))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(data[: chance.choice((len(data), len(data) // 2, 7))]))


# --- checks ----------------------------------------------------------------------------------------------------------
_COMMANDS: Final = (
    *(["load"],) * 20,  # a command takes ten times as long
    ["export", "x.ckpt", "--format", "circuit"],
    ["export", "x.ckpt", "--format", "c,verilog"],
    *(["test", "x.ckpt", *_HELD],) * 2,
    ["report", "x.ckpt"],
    ["verify", "x.ckpt", "x.ckpt"],
)
_MEASURES: Final = (
    *(["test", "x.ckpt", *_HELD],) * 2,
    ["validate", "x.ckpt", *_HELD],
    ["predict", "x.ckpt"],
)


def check(seed: int, folder: str = "") -> Outcome:
    """Loads, exports, tests or reports a forged checkpoint."""
    folder = folder or str(_good_checkpoints())
    with _case_folder():
        content, done = make(seed, folder)
        try:
            _write(seed, content, Path("x.ckpt"))
        except Exception as error:  # torch cannot save that
            return Outcome("refused", f"not written: {error}")
        chance = random.Random(seed)
        command = chance.choice(_MEASURES if _name_code.__name__ in done and chance.random() < 0.6 else _COMMANDS)
        outcome = _load() if command == ["load"] else run_command(list(command))
        found = sorted(path.name for path in Path().glob(f"{_CANARY}*") if path.name != f"{_CANARY}.sh")
        if found:
            return Outcome("wrong", f"code or a folder of the checkpoint was used: {' '.join(found)}", command[0])
        if outcome.kind == "valid":
            return _sound(content, command[0])
        return outcome


def _load() -> Outcome:
    try:
        net = lgn_lightning.load_net("x.ckpt")
    except (LgnError, CircuitError) as error:
        return Outcome("refused", str(error))
    except Exception as error:
        return raised(error)
    shape = getattr(net, "init_args", None) or {}
    try:
        images = torch.randint(256, (3, *shape["in_shape"]), dtype=torch.uint8)
    except (KeyError, TypeError):
        return Outcome("valid")
    try:
        circuit = Circuit.from_module(net)
        same = np.array_equal(circuit.scores(images), hard_counts(circuit, net, images.numpy()))
    except Exception as error:
        return raised(error, "wrong")
    return Outcome("valid") if same else Outcome("wrong", "the circuit is not the net", "load")


def _sound(content: dict[str, Any], command: str) -> Outcome:
    """What was accepted must be a net that can be: no NaN weights, no wires to nowhere."""
    for key, value in content["state_dict"].items():
        if not isinstance(value, Tensor) or not str(key).startswith("net.") or value.is_meta or value.is_sparse:
            continue
        if value.is_floating_point() and bool(torch.isnan(value).any()):
            return Outcome("wrong", "NaN weights are accepted", command)
        if (
            value.dtype in (torch.int32, torch.int64)
            and value.numel()
            and not 0 <= int(value.min()) <= int(value.max()) < 10_000
        ):
            return Outcome("wrong", "wires to inputs that there are not are accepted", command)
    return Outcome("valid")


@contextlib.contextmanager
def _case_folder() -> Any:
    """A folder of the case, with code that a forged file can name, from which modules are imported."""
    before, folder = Path.cwd(), Path(tempfile.mkdtemp(prefix="soak-"))
    os.chdir(folder)
    shutil.copy(Path(__file__).with_name("evil.py"), "evil.py")
    script = Path(f"{_CANARY}.sh")
    script.write_text(f"#!/bin/sh\ntouch {folder / _CANARY}\n")
    script.chmod(0o755)
    sys.path.insert(0, str(folder))
    sys.modules.pop("evil", None)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


# --- runs ------------------------------------------------------------------------------------------------------------
def _good_checkpoints() -> Path:
    folder = out_folder() / "good-checkpoints"
    if not (folder / "tree.ckpt").is_file():
        folder.mkdir(exist_ok=True)
        with Worker(write_originals, 300) as worker:
            problem = worker(str(folder))
        if problem is not None:
            raise RuntimeError(f"no checkpoint to forge: {problem}")
    return folder


def save(seed: int, path: Path) -> Path:
    """Writes a case to a file."""
    content, done = make(seed, str(_good_checkpoints()))
    file = path.with_name(f"{path.name}-{'-'.join(done)}").with_suffix(".ckpt")
    with contextlib.suppress(Exception):
        _write(seed, content, file)
    return file


def run(count: int, first: int = 0) -> Tally:
    """Forges so many checkpoints."""
    _good_checkpoints()
    return run_seeds(Tally("forged checkpoints"), check, range(first, first + count), save, SECONDS)
