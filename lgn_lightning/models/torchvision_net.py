"""Real-valued nets that teach: classifiers of torchvision."""

import difflib
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.models.arguments import KnowsArguments
from lgn_lightning.nn.checked_input import CheckedInput
from lgn_lightning.nn.encoders import as_intensity, check_pixels


class TorchvisionNet(KnowsArguments, CheckedInput):
    """An image classifier of torchvision on pixels: a teacher for :class:`~lgn_lightning.losses.DistillationLoss`.

    Train one with ``lgn fit`` like any other net, and give its checkpoint to the loss.

    Args:
        name: As in ``torchvision.models.get_model``, for example ``"resnet18"``.
        in_shape: Shape of an image, ``(channels, height, width)``; a single channel is repeated to three.
        num_classes: Number of classes.
        mean: Mean intensity of each of the three channels, subtracted.
        std: What each is divided by then.
        resize: Height and width that images are scaled to; as they are by default.
        weights: File with a state dict of the torchvision net; random weights if not given.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1].
        - Output: logits ``[batch, num_classes]``.

    Raises:
        ValueError: If there is no such net, or images have neither 1 nor 3 channels.
        CheckpointError: If the weights cannot be read.
    """

    #: Of a file's settings, see `lgn_lightning.base.trust`: the checkpoint has the weights.
    not_from_files: ClassVar = {"weights": None}
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        in_shape: Sequence[int],
        num_classes: int,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        resize: int | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        from torchvision import models as zoo  # takes a second to import, and other nets do without

        known = zoo.list_models(module=zoo)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name!r} is no image classifier of torchvision{hint}")
        if len(in_shape) != 3 or in_shape[0] not in (1, 3):
            raise ValueError(f"in_shape={list(in_shape)}: torchvision nets take images of 1 or 3 channels")
        self.num_classes = num_classes
        self.resize = resize
        self.net = zoo.get_model(name, num_classes=num_classes)
        if weights is not None:
            try:
                self.net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
            except Exception as error:  # torch raises what zipfile, pickle or its own reader raise
                raise CheckpointError(f"{weights} holds no weights of {name}: {error}") from error
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        check_pixels(self, x)
        x = as_intensity(x)
        if self.resize is not None:
            x = nn.functional.interpolate(x, size=self.resize, mode="bilinear", antialias=True)
        return cast(Tensor, self.net((x - self.mean) / self.std))
