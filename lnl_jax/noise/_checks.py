"""What every kind of noise asks of its arguments."""

import numpy as np


def check_num_classes(num_classes: int) -> None:
    """Raises ValueError for fewer than two classes."""
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}.")


def check_rate(rate: float) -> None:
    """Raises ValueError unless the rate is a fraction."""
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be from 0 to 1, got {rate}.")


def check_label_array(labels: np.ndarray) -> None:
    """Raises ValueError unless the labels are a vector of integers."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape [N], got {labels.dtype} of shape {labels.shape}."
        )


def check_label_range(labels: np.ndarray, num_classes: int) -> None:
    """Raises ValueError unless every label is a class."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels must be from 0 to {num_classes - 1}, as there are {num_classes} classes; got "
            f"{labels.min()} to {labels.max()}."
        )
