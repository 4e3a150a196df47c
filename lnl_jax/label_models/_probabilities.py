"""How probabilities of classes and the labels given beside them are read."""

import numpy as np

from lnl_jax._host_arguments import LISTED, host_array, host_classes

# Numbers of one block of rows, which fit a core's cache.
BLOCK = 2**17
# Float16 rounds a row's sum by less.
TOLERANCE = 1e-3


def read_probabilities(probabilities: np.ndarray, name: str = "probabilities") -> np.ndarray:
    """Float32 or float64, ``[N, K]``; half precision becomes float64.

    Raises:
        ValueError: unless each row is a distribution over at least two classes; names rows.
    """
    probabilities = host_array("probabilities", probabilities)
    # NumPy does not know bfloat16, of kind V.
    if probabilities.ndim != 2 or probabilities.dtype.kind not in "fV" or not len(probabilities):
        raise ValueError(
            f"{name} must be floating of shape [N, K], a row for each example; got "
            f"{probabilities.dtype} of shape {probabilities.shape}."
        )
    if probabilities.shape[1] < 2:
        raise ValueError(
            f"{name} must be of at least two classes, got {probabilities.shape[1]}; of two classes "
            f"with one probability p, np.stack([1 - p, p], -1)."
        )
    probabilities = as_wide(probabilities)
    _check_rows(probabilities, name)
    return probabilities


def as_wide(probabilities: np.ndarray) -> np.ndarray:
    """Float32 and float64 as they are, half precision as float64."""
    probabilities = host_array("probabilities", probabilities)
    is_wide = probabilities.dtype in (np.float32, np.float64)
    return probabilities if is_wide else probabilities.astype(np.float64)


def read_labelled(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, checked; the labels are int32 from 0 to K - 1."""
    probabilities = read_probabilities(probabilities)
    return probabilities, host_classes(labels, *probabilities.shape)


def row_blocks(values: np.ndarray) -> list[slice]:
    """Consecutive rows, a block at a time."""
    rows = max(1, BLOCK // values.shape[1])
    return [slice(start, start + rows) for start in range(0, len(values), rows)]


def own_entries(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The entry of each row at its class, ``[N]``."""
    return np.take_along_axis(values, classes[:, None], -1)[:, 0]


def _check_rows(probabilities: np.ndarray, name: str) -> None:
    broken = []
    for block in row_blocks(probabilities):
        rows = probabilities[block]
        # Of NaN neither holds.
        if rows.min() >= 0 and np.abs(sums := rows.sum(-1) - 1).max() <= TOLERANCE:
            continue
        sums = rows.sum(-1, dtype=np.float64) - 1
        fine = (np.abs(sums) <= TOLERANCE) & (rows >= 0).all(-1)
        broken.append(block.start + np.flatnonzero(~fine))
    broken = np.concatenate([*broken, np.zeros(0, int)])
    if not broken.size:
        return
    first = probabilities[broken[0]].astype(np.float64)
    what = "has NaN" if np.isnan(first).any() else f"sums to {first.sum():.4g}"
    what = f"holds {first.min():.4g}" if first.min() < 0 else what
    listed = ", ".join(map(str, broken[:LISTED])) + ", ..." * (broken.size > LISTED)
    raise ValueError(
        f"{name} must be at least 0 and sum to 1 in each row; {broken.size} of "
        f"{len(probabilities)} rows do not ({listed}), the first {what}. Take a softmax of logits "
        f"or divide by {name}.sum(-1, keepdims=True)."
    )
