"""What a bag tells each of its examples, given what else is known of the others."""

import numpy as np


def bag_messages(odds: np.ndarray, counts: np.ndarray, weight: float) -> np.ndarray:
    r"""Log-odds that bags of one size send to their examples, exactly.

    The factor of a bag is :math:`\exp(-\lambda (\sum_i y_i - n)^2)`. It depends on the sum alone,
    so the sums over all labels of the others go from example to example, :math:`O(m^2)` for a bag.

    Args:
        odds: of each example by all but its bag, ``[B, m]``.
        counts: n, ``[B]``.
        weight: :math:`\lambda`.

    Returns:
        ``[B, m]``.
    """
    positive, negative = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    size = odds.shape[1]
    # What the examples from i on add, for each sum of those before; in logarithms.
    after = [-weight * (np.arange(size + 1) - counts[:, None]) ** 2]
    for i in range(size - 1, 0, -1):
        one, zero = positive[:, i, None] + _shifted(after[-1], -1), negative[:, i, None] + after[-1]
        after.append(np.logaddexp(one, zero))
    before = np.full((len(odds), size + 1), -np.inf)
    before[:, 0] = 0
    messages = np.empty(odds.shape)
    for i in range(size):
        rest = after.pop()
        messages[:, i] = _log_sum(before + _shifted(rest, -1)) - _log_sum(before + rest)
        one, zero = positive[:, i, None] + _shifted(before, 1), negative[:, i, None] + before
        before = np.logaddexp(one, zero)
    return messages


def _shifted(values: np.ndarray, by: int) -> np.ndarray:
    """The values of sums that are one larger or smaller; minus infinity beyond the last."""
    moved = np.full(values.shape, -np.inf)
    if by < 0:
        moved[:, :by] = values[:, -by:]
    else:
        moved[:, by:] = values[:, :-by]
    return moved


def _log_sum(values: np.ndarray) -> np.ndarray:
    largest = values.max(1)
    return largest + np.log(np.exp(values - largest[:, None]).sum(1))
