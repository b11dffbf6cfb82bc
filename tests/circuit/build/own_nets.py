"""Nets as users write them, whose forward passes are more than a row of layers."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as users write it
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer, LutLayer, Threshold
from lgn_lightning.nn import LogicConcat, LogicResidual, LogicSequential, LogicTreeConv2d, OrPool2d

SHAPE, BITS = (1, 8, 8), 128
Options = dict[str, Any]


def encoder(**options: Any) -> Threshold:
    return Threshold([0.3, 0.6], SHAPE, **options)


class Holder(nn.Module):
    """``self.net = nn.Sequential(…)``, with what does nothing in evaluation."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.net = nn.Sequential(
            encoder(),
            nn.Dropout(0.1),
            LogicLayer(BITS, 100, **options),
            nn.Sequential(nn.Identity(), LogicLayer(100, 100, **options)),
            GroupSum(10, 4.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Branches(nn.Module):
    """Two branches of one encoder, joined by ``torch.cat``."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode = encoder()
        self.left, self.right = LogicLayer(BITS, 80, **options), LogicLayer(BITS, 80, **options)
        self.head, self.sum = LogicLayer(160, 100, **options), GroupSum(10, 4.0)

    def forward(self, x: Tensor) -> Tensor:
        bits = self.encode(x)
        return self.sum(self.head(torch.cat([self.left(bits), self.right(bits)], dim=1)))


class Skips(nn.Module):
    """Layers in a list, each with a skip: an xor in its soft form, or ``torch.cat`` with the input."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode, self.first = encoder(), LogicLayer(BITS, 100, **options)
        self.layers = nn.ModuleList(LogicLayer(100, 100, **options) for _ in range(3))
        self.last, self.sum = LogicLayer(100 + BITS, 120, **options), GroupSum(10, 4.0)

    def forward(self, x: Tensor) -> Tensor:
        bits = self.encode(x)
        h = self.first(bits)
        for layer in self.layers:
            new = layer(h)
            h = h + new - 2 * h * new
        return self.sum(self.last(torch.cat((h, bits), 1)))


class Shared(nn.Module):
    """A layer that is used twice, as in a recurrent net, and one that every patch shares."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode = encoder(flatten=False)
        self.patch, self.twice = LogicLayer(32, 20, **options), LogicLayer(80, 80, **options)
        self.sum = GroupSum(10, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        bits = self.encode(x)  # [batch, 2, 8, 8]
        batch, channels, height, width = bits.shape
        quarters = bits.reshape(batch, channels, 2, height // 2, 2, width // 2).permute(0, 2, 4, 1, 3, 5)
        h = self.patch(quarters.reshape(batch, 4, -1)).flatten(1)
        for _ in range(2):
            h = self.twice(h)
        return self.sum(h)


class Ensemble(nn.Module):
    """The mean of several nets' scores, and one net with more weight."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode = encoder()
        self.members = nn.ModuleList(
            nn.Sequential(LogicLayer(BITS, 100, **options), GroupSum(10, 4.0)) for _ in range(3)
        )
        self.extra = nn.Sequential(LogicLayer(BITS, 70, **options), GroupSum(10, 2.0))

    def forward(self, x: Tensor) -> Tensor:
        bits = self.encode(x)
        scores = torch.stack([member(bits) for member in self.members]).mean(0)
        return scores + self.extra(bits) / 2


class Heads(nn.Module):
    """Two heads on one body, whose scores follow one another."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(encoder(), LogicLayer(BITS, 100, **options))
        self.coarse = nn.Sequential(LogicLayer(100, 60, **options), GroupSum(3, 4.0))
        self.fine = nn.Sequential(LogicLayer(100, 70, **options), GroupSum(7, 4.0))

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return torch.cat([self.coarse(h), self.fine(h)], -1)


class Operators(nn.Module):
    """Logic between activations: and, or, xor, not, on bools and in soft forms, majority, and a choice."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode, self.sum = encoder(), GroupSum(10, 4.0)
        self.a, self.b, self.c = (LogicLayer(BITS, 70, **options) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        bits = self.encode(x)
        a, b, c = self.a(bits), self.b(bits), self.c(bits)
        p, q, r = a.bool(), b.bool(), c.bool()
        logic = torch.cat([p & q, q | r, p ^ r, ~p, torch.logical_xor(p, ~q)], 1).float()
        soft = torch.cat([1 - a, a * b, a + b - a * b, (a - b).abs(), torch.maximum(b, c)], 1)
        more = [((a + b + c) > 1.5).float(), torch.where(p, b, c), (a == b).float()]
        return self.sum(torch.cat([logic, soft, *more, torch.zeros_like(a), torch.ones_like(b)], 1))


class Slices(nn.Module):
    """Slices, indices from a buffer, chunks, stacks, flips, rolls and borders."""

    order: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode = encoder(flatten=False)
        self.register_buffer("order", torch.randperm(BITS))
        self.a, self.b = LogicLayer(64, 50, **options), LogicLayer(64, 50, **options)
        self.c, self.sum = LogicLayer(200, 100, **options), GroupSum(10, 4.0)

    def forward(self, x: Tensor) -> Tensor:
        image = self.encode(x).flip(-1).roll(1, dims=2)
        image = F.pad(image[..., 1:, :], (0, 0, 0, 1))
        first, second = image.flatten(1)[:, self.order].chunk(2, dim=1)
        pairs = torch.stack([self.a(first), self.b(second)], dim=2)
        flat = pairs.transpose(1, 2).contiguous().view(x.size(0), -1)
        flat = torch.cat([flat, flat[:, ::2], flat[:, -50:]], 1)
        return self.sum(self.c(flat))


class Convolutions(nn.Module):
    """Convolutions with a skip, poolings of both kinds, flattened by ``view``."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode, self.pool = encoder(flatten=False), OrPool2d(2)
        self.one = LogicTreeConv2d(2, 6, 3, 2, padding=1, **options)
        self.two = LogicTreeConv2d(6, 6, 3, 2, padding=1, **options)
        self.dense, self.sum = LogicLayer(96, 60, **options), GroupSum(10, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.one(self.encode(x)))
        h = torch.maximum(h, self.two(h))
        wide = F.max_pool2d(h, 3, stride=1, padding=1) * h
        return self.sum(self.dense(wide.view(wide.shape[0], -1)))


class Blocks(LogicSequential):
    """The blocks of this library, nested."""

    def __init__(self, **options: Any) -> None:
        body = LogicSequential(LogicLayer(100, 100, **options), LogicLayer(100, 100, **options))
        super().__init__(
            encoder(),
            LogicLayer(BITS, 100, **options),
            LogicResidual(body, "xor"),
            LogicConcat(nn.Identity(), LogicLayer(100, 50, **options)),
            LogicResidual(LogicLayer(150, 80, **options), "nand", shortcut=LogicLayer(150, 80, **options)),
            GroupSum(10, 4.0),
        )


class OwnSum(nn.Module):
    """Sums of its own and a layer of another arity, and a branch that asks for shapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode, self.first = encoder(), LogicLayer(BITS, 120, **options)
        self.lut = LutLayer(120, 120, 3, **{"parametrization": "sigmoid", **options})
        self.tau = 4.0

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            x = x.unsqueeze(1)
        h = self.lut(self.first(self.encode(x)))
        return h.view(len(h), 10, -1).sum(-1) / self.tau


class TwoInputs(nn.Module):
    """Two inputs of bits, of which one goes straight to the head."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.left, self.right = LogicLayer(30, 40, **options), LogicLayer(20, 40, **options)
        self.head, self.sum = LogicLayer(80, 60, **options), GroupSum(6, 2.0)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.left(left), self.right(right)
        return self.sum(self.head(torch.cat([a * b, a], 1)))


class UNet(nn.Module):
    """Down by a pooling, up by nearest neighbours, joined with what was before, and a mean over the image as scores."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode, self.pool, self.up = encoder(flatten=False), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.down = nn.ModuleList(LogicTreeConv2d(width, 6, 3, 2, padding=1, **options) for width in (2, 6))
        self.across, self.head = LogicTreeConv2d(12, 10, 3, 2, padding=1, **options), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down[0](self.encode(x))
        coarse = self.down[1](self.pool(fine))
        joined = F.interpolate(coarse, size=fine.shape[-2:], mode="nearest") * self.up(coarse)
        return self.head(self.across(torch.cat([joined, fine], 1))).flatten(1) * 4


class ResidualTrees(LogicSequential):
    """Residual blocks of convolutions: one that keeps its shape, one that halves it beside a pooled shortcut."""

    def __init__(self, **options: Any) -> None:
        def trees(before: int, after: int, size: int = 3) -> LogicTreeConv2d:
            return LogicTreeConv2d(before, after, size, 2, padding=size // 2, **options)

        shortcut = LogicSequential(OrPool2d(2), trees(6, 12, 1))
        super().__init__(
            encoder(flatten=False),
            trees(2, 6),
            LogicResidual(LogicSequential(trees(6, 6), trees(6, 6)), "xor"),
            LogicResidual(LogicSequential(trees(6, 12), OrPool2d(2)), "xor", shortcut=shortcut),
            nn.Flatten(),
            LogicLayer(192, 100, **options),
            GroupSum(10, 4.0),
        )


class Mixer(nn.Module):
    """Layers along the tokens and along the channels of patches in turn, with skips."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode, self.patch = encoder(flatten=False), nn.Unfold(3, stride=2, padding=1)
        self.first = LogicLayer(18, 10, **options)
        self.tokens = nn.ModuleList(LogicLayer(16, 16, **options) for _ in range(2))
        self.channels = nn.ModuleDict({f"mix{i}": LogicLayer(10, 10, **options) for i in range(2)})
        self.sum = GroupSum(10, 4.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.patch(self.encode(x)).transpose(1, 2))  # [batch, patches, channels]
        for mix, (_, layer) in zip(self.tokens, self.channels.items(), strict=True):
            h = (h - mix(h.transpose(1, 2)).mT).abs()
            h = h.masked_fill(layer(h) > 0.5, 1.0) if not self.training else torch.maximum(h, layer(h))
        return self.sum(h.transpose(1, 2).flatten(1))


class Members(nn.Module):
    """Whole nets side by side, each with an encoder of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        levels = ([0.3], [0.3, 0.6], [0.6])
        self.members = nn.ModuleList(
            nn.Sequential(Threshold(each, SHAPE), LogicLayer(64 * len(each), 100, **options), GroupSum(10, 4.0))
            for each in levels
        )

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == SHAPE
        return sum(member(x) for member in self.members) / len(self.members)


class Votes(nn.Module):
    """Majorities: of many bits, by a straight-through estimate, and of a few."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode = encoder()
        self.many, self.few = LogicLayer(BITS, 300, **options), LogicLayer(BITS, 90, **options)
        self.last, self.sum = LogicLayer(60, 60, **options), GroupSum(10, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        bits = self.encode(x)
        share = self.many(bits).view(len(x), 30, 10).mean(-1)
        many = share + ((share >= 0.5).float() - share).detach()
        few = self.few(bits).view(len(x), 30, 3).sum(-1)
        few = few / 3 + ((few > 1.5).float() - few / 3).detach()
        return self.sum(self.last(torch.cat([many, few], 1)))


class TwoImages(nn.Module):
    """One encoder and layer for two images, which a circuit takes as the channels of one."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encode, self.layer = encoder(), LogicLayer(BITS, 70, **options)
        self.sum = GroupSum(7, 2.0)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        a, b = (self.layer(self.encode(image)) for image in (one, two))
        return self.sum(a + b - 2 * a * b)


#: Nets of images; `TwoInputs` and `TwoImages` take more than one.
OF_IMAGES: tuple[type[nn.Module], ...] = (
    *(Holder, Branches, Skips, Shared, Ensemble, Heads, Operators, Slices, Convolutions, Blocks, OwnSum),
    *(UNet, ResidualTrees, Mixer, Members, Votes),
)
