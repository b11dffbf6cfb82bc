import base64
import io

import numpy as np
from PIL import Image

from lgn_lightning.report.confusion import confusion, image_uri

LABELS = np.array([0, 0, 0, 1, 1, 2])
SCORES = np.array([[9, 1, 0], [1, 5, 0], [2, 8, 0], [3, 3, 0], [0, 7, 0], [0, 0, 1]])


def test_rows_are_classes_and_columns_are_predictions() -> None:
    result = confusion(SCORES, LABELS)
    assert result.matrix.tolist() == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]  # the first of equal scores wins
    assert result.accuracy == 3 / 6
    assert result.largest(5) == [(0, 1, 2), (1, 0, 1)]


def test_the_surest_errors_come_first() -> None:
    result = confusion(SCORES, LABELS)
    assert result.examples(LABELS, 0, 1, 5) == [2, 1]
    assert result.examples(LABELS, 0, 1, 1) == [2]


def test_images_become_png() -> None:
    for channels, shown in ((1, (5, 4)), (3, (5, 4, 3)), (2, (5, 4))):
        image = np.random.default_rng(0).integers(0, 256, (channels, 5, 4)).astype(np.uint8)
        uri = image_uri(image)
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
        assert pixels.shape == shown
        assert np.array_equal(pixels, image.transpose(1, 2, 0) if channels == 3 else image[0])
