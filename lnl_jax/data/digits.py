"""The handwritten digits that come with scikit-learn."""

import numpy as np

from lnl_jax._extras import require
from lnl_jax.data.labels import check_labels

NUM_CLASSES = 10


def digits() -> dict[str, np.ndarray]:
    """Optical recognition of handwritten digits: 1,797 real images of 8 by 8 pixels, 10 classes.

    It is embedded in scikit-learn, so nothing is downloaded. The set has no split of its own: see
    `hold_out`.

    Returns:
        ``x``, float32 from 0 to 1, ``[1797, 64]``; ``label``, int32, ``[1797]``; ``index``, the row
        numbers, int32, ``[1797]``.

    Example:
        >>> digits()["x"].shape
        (1797, 64)

    References:
        Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (UCI Machine Learning
        Repository, 1998), the test part.
    """
    require("sklearn")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return {
        "x": (pixels / 16).astype(np.float32),
        "label": check_labels(labels, NUM_CLASSES),
        "index": np.arange(len(labels), dtype=np.int32),
    }
