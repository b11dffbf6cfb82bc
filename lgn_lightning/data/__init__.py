"""LightningDataModules of images, tables and sequences: samples in memory, batches by index vector."""

from typing import TYPE_CHECKING

from lgn_lightning.base.errors import DataError
from lgn_lightning.base.lazy import lazy_names

if TYPE_CHECKING:
    from lgn_lightning.data.augment import (
        Affine,
        Augmentation,
        Compose,
        Elastic,
        HorizontalFlip,
        RandomResizedCrop,
        Shift,
    )
    from lgn_lightning.data.cifar10 import CIFAR10
    from lgn_lightning.data.digits import Digits
    from lgn_lightning.data.embedded_tables import Monk, SklearnTable
    from lgn_lightning.data.growth import Growth
    from lgn_lightning.data.image_folder import ImageFolder
    from lgn_lightning.data.images import ImageDataModule, ImageSet
    from lgn_lightning.data.keywords import KeywordStream
    from lgn_lightning.data.life import GameOfLife
    from lgn_lightning.data.loader import TensorLoader
    from lgn_lightning.data.mnist import MNIST, FashionMNIST
    from lgn_lightning.data.packed_table import PackedTable
    from lgn_lightning.data.parity import ParityStream
    from lgn_lightning.data.public_tables import PublicTable
    from lgn_lightning.data.sampler import EpochBatchSampler
    from lgn_lightning.data.sequences import Sequences
    from lgn_lightning.data.table import RowSet, Table
    from lgn_lightning.data.text import TextChars

__all__ = [
    "CIFAR10",
    "MNIST",
    "Affine",
    "Augmentation",
    "Compose",
    "DataError",
    "Digits",
    "Elastic",
    "EpochBatchSampler",
    "FashionMNIST",
    "GameOfLife",
    "Growth",
    "HorizontalFlip",
    "ImageDataModule",
    "ImageFolder",
    "ImageSet",
    "KeywordStream",
    "Monk",
    "PackedTable",
    "ParityStream",
    "PublicTable",
    "RandomResizedCrop",
    "RowSet",
    "SampleDataModule",
    "Sequences",
    "Shift",
    "SklearnTable",
    "Table",
    "TensorLoader",
    "TextChars",
]

# Imported on first use: `lgn predict` prepares image files by this package and does without torch.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Affine": "augment",
        "Augmentation": "augment",
        "Compose": "augment",
        "Elastic": "augment",
        "HorizontalFlip": "augment",
        "RandomResizedCrop": "augment",
        "Shift": "augment",
        "SampleDataModule": "base",
        "ImageDataModule": "images",
        "ImageSet": "images",
        "CIFAR10": "cifar10",
        "Digits": "digits",
        "ImageFolder": "image_folder",
        "TensorLoader": "loader",
        "MNIST": "mnist",
        "FashionMNIST": "mnist",
        "EpochBatchSampler": "sampler",
        "Monk": "embedded_tables",
        "SklearnTable": "embedded_tables",
        "PackedTable": "packed_table",
        "GameOfLife": "life",
        "Growth": "growth",
        "KeywordStream": "keywords",
        "ParityStream": "parity",
        "TextChars": "text",
        "Sequences": "sequences",
        "PublicTable": "public_tables",
        "RowSet": "table",
        "Table": "table",
    },
)
