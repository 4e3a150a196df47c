"""Labels are checked once, on the host, when a data set is loaded."""

import numpy as np


def check_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the labels as int32, or says what is wrong with them.

    Inside a compiled program an impossible label cannot raise; a loss shows it as NaN.

    Args:
        labels: integers of shape ``[N]``.
        num_classes: K.

    Returns:
        The labels, ``[N]``, int32.

    Raises:
        ValueError: if they are not integers, or outside ``[0, K)``; names the first offender.

    Example:
        >>> check_labels(np.array([0, 2, 1], np.uint8), 3).tolist()
        [0, 2, 1]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape [N], got {labels.dtype} of shape {labels.shape}."
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise ValueError(
            f"labels must be from 0 to {num_classes - 1}; {outside.size} of {labels.size} are not, "
            f"the first in row {outside[0]}: {labels[outside[0]]}."
        )
    return labels.astype(np.int32)
