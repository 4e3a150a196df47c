"""Labels are checked once, on the host, when a data set is loaded."""

import numpy as np

from lnl_jax._host_arguments import check_integer, read_class_numbers


def check_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the labels as int32, or says what is wrong with them.

    Inside a compiled program an impossible label cannot raise; a loss shows it as NaN.

    Args:
        labels: integers of shape ``[N]``, signed or unsigned.
        num_classes: K.

    Returns:
        The labels, ``[N]``, int32.

    Raises:
        ValueError: if they are not integers of this shape, or outside ``[0, K)``; names the first
            offender and what is to be done with labels of this kind: one-hot rows, text, floating
            numbers, ``[N, 1]``, classes from 1 to K, 255 or -1 for no label.

    Example:
        >>> check_labels(np.array([0, 2, 1], np.uint8), 3).tolist()
        [0, 2, 1]
    """
    check_integer("num_classes", num_classes, at_least=1)
    return read_class_numbers(labels, num_classes)
