"""The training step as a CUDA graph: recorded once, replayed with one launch a step.

A small net is bound by launches and by Python, not by its gates. A graph holds the kernels of a whole step (forward,
loss, backward and the optimizer's update) and the addresses of their operands; a replay runs them all. Therefore the
batch is copied to the address that was recorded, the learning rate is read from memory, and what Python decides
(shapes, wiring, hyperparameters) stays as it was at the recording. A change of it is noticed, and the step is recorded
again.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from lgn_lightning.nn.gate_layer import GateLayer

#: Eager steps before a batch shape is recorded. They make what a recording must not make: optimizer state, walks of the
#: wiring, compiled code.
WARM_UP = 3
#: Recordings after which a step counts as one that keeps changing.
MAX_RECORDINGS = 10

#: What a warning begins with that says why there is no graph.
FALLBACK = "cuda_graph: the training step runs without a CUDA graph"

Loss = Callable[[Tensor, Tensor], Tensor]


class Recorder(Protocol):
    """Records a step; tests use another one than CUDA's."""

    def warm_up(self, step: Callable[[], Tensor]) -> Tensor:
        """Runs a step under the conditions of a recording."""

    def record(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Records a step without running it; gives what replays it, and the tensor that holds its result then."""


class CudaRecorder:
    """Records on a stream of its own, as captures must."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, step: Callable[[], Tensor]) -> Tensor:
        """Runs a step on the stream of the recordings; the current stream waits for it."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = step()
        current.wait_stream(self._stream)
        return result

    def record(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Captures a step in a CUDA graph."""
        gc.collect()  # a graph that died in a reference cycle must not be freed while another is captured
        graph = torch.cuda.CUDAGraph()
        # The outer context: a capture that fails leaves its stream the current one in some releases of torch.
        # thread_local: a progress bar or a logger may use the GPU from its own thread meanwhile.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self._stream.device)),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            result = step()
        return graph.replay, result


class GraphedStep:
    """A training step: gradients to none, forward, loss, backward, optimizer step; recorded when it can be.

    Every call trains one step. The first calls of a batch shape run eagerly; then the step of that shape is recorded,
    and batches of this shape are replays from there on. Other shapes (the incomplete last batch of an epoch) stay
    eager. If a recording fails, one warning gives the reason and all steps are eager.

    The learning rate may change at every step; it stays a number in the optimizer, so that schedulers and checkpoints
    know nothing of the graph. Other hyperparameters, wiring buffers (int32), ``requires_grad`` and the numbers of
    samplers are compared before each replay, and a change leads to a new recording. Any other change needs
    :meth:`forget`.

    Args:
        net: The module whose buffers and parameters the loss uses.
        loss: Maps images and labels to a scalar; no part of it may wait for the device.
        optimizer: Updates parameters on one device; ``graph_rules.optimizer_reason`` says what it must be able to do.
        recorder: Records; CUDA's if not given.
    """

    def __init__(self, net: nn.Module, loss: Loss, optimizer: Optimizer, recorder: Recorder | None = None) -> None:
        self._net, self._loss, self._optimizer = net, loss, optimizer
        self._device = next(p for group in optimizer.param_groups for p in group["params"]).device
        self._recorder = recorder if recorder is not None else CudaRecorder(self._device)
        self._rates = [torch.zeros((), device=self._device) for _ in optimizer.param_groups]
        self._written: list[float] = []
        self._capturable = [group.get("capturable") for group in optimizer.param_groups]
        self._make_capturable()
        self._recordings = 0
        #: Whether a recording failed, so that all further steps are eager.
        self.failed = False
        #: Whether a step was made; :class:`~lgn_lightning.training.graphed_training.GraphedTraining` resets it.
        self.stepped = False
        self.forget()

    @property
    def recorded(self) -> bool:
        """Whether there is a recording to replay."""
        return self._replay is not None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Trains one step and gives its loss, detached; the next call may overwrite it."""
        self.stepped = True
        self._write_rates()
        if self.failed:
            return self._run(x, y)
        if self._replay is not None and self._frozen != self._now():
            self.forget()
        if self._replay is None:
            # Autocast is constant within a run, and so no part of the key.
            key = (x.shape, x.dtype, y.shape, y.dtype)
            self._seen[key] += 1
            if self._seen[key] <= WARM_UP:
                return self._recorder.warm_up(lambda: self._run(x, y))
            if not self._record(x, y):
                return self._run(x, y)
        elif x.shape != self._x.shape or x.dtype != self._x.dtype or y.shape != self._y.shape:
            self._strayed = True
            return self._run(x, y)
        else:
            self._x.copy_(x, non_blocking=True)
            self._y.copy_(y, non_blocking=True)
        if self._strayed:  # an eager step left gradients of its own
            self._strayed = False
            for parameter, gradient in self._gradients:
                parameter.grad = gradient
        assert self._replay is not None
        self._replay()
        return self._result

    def forget(self) -> None:
        """Drops the recording; the next steps make a new one."""
        self._replay: Callable[[], None] | None = None
        self._gradients: list[tuple[nn.Parameter, Tensor | None]] = []
        self._strayed = False
        self._seen: Counter[Any] = Counter()

    def close(self) -> None:
        """Drops the recording and leaves the optimizer as it was found."""
        self.forget()
        for group, capturable in zip(self._optimizer.param_groups, self._capturable, strict=True):
            if capturable is not None:
                group["capturable"] = capturable

    def clean(self, state: dict[str, Any]) -> None:
        """Takes what only the graph needs out of a state dict of the optimizer, which then resumes on any device."""
        for group, capturable in zip(state["param_groups"], self._capturable, strict=True):
            if capturable is not None:
                group["capturable"] = capturable

    def _run(self, x: Tensor, y: Tensor) -> Tensor:
        # To None and not to zero: so a recorded backward pass overwrites its gradients and does not add to them.
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(x, y)
        with torch.autocast(self._device.type, enabled=False):  # where Lightning's backward pass runs
            loss.backward()  # type: ignore[no-untyped-call]
            with self._rates_in_memory():
                self._optimizer.step()
        return loss.detach()

    def _record(self, x: Tensor, y: Tensor) -> bool:
        self._x, self._y = x.clone(), y.clone()
        try:
            if self._recordings == MAX_RECORDINGS:
                raise RuntimeError(f"the step changed {MAX_RECORDINGS} times after it was recorded")
            self._replay, self._result = self._recorder.record(lambda: self._run(self._x, self._y))
        except RuntimeError as error:
            self.failed = True
            self._optimizer.zero_grad(set_to_none=True)
            rank_zero_warn(f"{FALLBACK}: {str(error).strip().splitlines()[0]}")
            return False
        self._recordings += 1
        self._gradients = [(p, p.grad) for group in self._optimizer.param_groups for p in group["params"]]
        self._wires = [buffer for buffer in self._net.buffers() if buffer.dtype == torch.int32]
        self._frozen = self._now()
        return True

    def _now(self) -> list[Any]:
        """What a recording keeps as it was and a user may change."""
        now: list[Any] = [(wires.data_ptr(), wires._version) for wires in self._wires]
        for group in self._optimizer.param_groups:
            now += [value for name, value in group.items() if name not in ("params", "lr")]
        now += [parameter.requires_grad for parameter, _ in self._gradients]
        samplers = dict.fromkeys(module.sampler for module in self._net.modules() if isinstance(module, GateLayer))
        now += [number for sampler in samplers for number in vars(sampler).values()]
        return now

    def _write_rates(self) -> None:
        rates = [group["lr"] for group in self._optimizer.param_groups]
        if rates != self._written:
            for tensor, rate in zip(self._rates, rates, strict=True):
                tensor.fill_(rate)
            self._written = rates

    @contextmanager
    def _rates_in_memory(self) -> Iterator[None]:
        groups = self._optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group, tensor in zip(groups, self._rates, strict=True):
            group["lr"] = tensor
        try:
            yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate

    def _make_capturable(self) -> None:
        for group in self._optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True
                for parameter in group["params"]:
                    step = self._optimizer.state.get(parameter, {}).get("step")
                    if isinstance(step, Tensor):  # of a checkpoint
                        self._optimizer.state[parameter]["step"] = step.to(parameter.device)
