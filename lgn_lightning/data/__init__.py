"""LightningDataModules: images in memory as uint8, batches by index vector."""

from lgn_lightning.data.augment import Affine, Augmentation, Compose, Elastic, HorizontalFlip, RandomResizedCrop, Shift
from lgn_lightning.data.base import ImageDataModule, ImageSet
from lgn_lightning.data.cifar10 import CIFAR10
from lgn_lightning.data.digits import Digits
from lgn_lightning.data.image_folder import ImageFolder
from lgn_lightning.data.loader import TensorLoader
from lgn_lightning.data.mnist import MNIST, FashionMNIST
from lgn_lightning.data.sampler import EpochBatchSampler
from lgn_lightning.errors import DataError

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
    "HorizontalFlip",
    "ImageDataModule",
    "ImageFolder",
    "ImageSet",
    "RandomResizedCrop",
    "Shift",
    "TensorLoader",
]
