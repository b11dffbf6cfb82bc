"""The base of losses that look at the images, too."""

from torch import Tensor, nn


class ImageLoss(nn.Module):
    """Base of losses that look at the images, too: :class:`~lgn_lightning.LogicClassifier` passes them.

    In ``.eval()`` mode, as in validation, such a loss is called without images and has to do without.
    """

    def forward(self, scores: Tensor, labels: Tensor, images: Tensor | None = None) -> Tensor:
        """Gives the loss, a scalar, of scores ``[batch, classes]``, labels, and images as the net got them."""
        raise NotImplementedError
