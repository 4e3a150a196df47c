"""Pieces of an epoch: a long one is trained in several calls; after each it can be gone on with."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from lnl_jax._host_arguments import check_integer

PyTree = Any


class SoFar(NamedTuple):
    """How far an epoch that is under way has come.

    Attributes:
        steps: how many of its steps were taken.
        sums: over these, dicts as of `no_sums`: one, or a list of one for each set of runs.
    """

    steps: int
    sums: PyTree


def no_sums(*metrics: str, shape: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """What an epoch has summed up before its first step.

    Args:
        *metrics: names of what is measured besides the number of examples.
        shape: of a metric: one number for each run.

    Returns:
        By name zeros in float64: of each metric, times the examples of its step, and of ``count``.

    Example:
        >>> {name: values.tolist() for name, values in no_sums("loss", shape=(2,)).items()}
        {'count': [0.0, 0.0], 'loss': [0.0, 0.0]}
    """
    return {name: np.zeros(shape) for name in ("count", *metrics)}


def in_pieces(rows: Any, steps_at_once: int | None, taken: int = 0) -> Iterator[tuple[slice, Any]]:
    """Cuts the steps of an epoch that are left into pieces, as equal as can be.

    Equal ones share a compiled program. Where they cut, it is the same whatever was taken.

    Args:
        rows: of its steps, arrays ``[steps, ...]``.
        steps_at_once: how many make a piece at most; fewer, down to half of them, where that makes
            pieces equal. None makes the whole epoch one.
        taken: how many steps were taken already.

    Yields:
        Which steps, and the rows of these.

    Raises:
        ValueError: if there are no such rows, or a number is out of range.

    Example:
        >>> [of.stop for of, _ in in_pieces({"position": np.zeros((30, 4))}, 12)]
        [10, 20, 30]
        >>> [of.stop for of, _ in in_pieces({"position": np.zeros((31, 4))}, 12, taken=11)]
        [22, 31]
    """
    if steps_at_once is None and not taken:
        yield slice(0, None), rows
        return
    if not isinstance(rows, Mapping) or not rows:
        raise ValueError(
            "to take an epoch in pieces, its rows must be a dict of arrays [steps, ...], got a "
            f"{type(rows).__name__}."
        )
    steps = len(next(iter(rows.values())))
    check_integer("taken", taken, at_least=0, at_most=steps - 1)
    length = steps if steps_at_once is None else _length(steps, steps_at_once)
    while taken < steps:
        end = min((taken // length + 1) * length, steps)
        part = slice(taken, end)
        yield part, {name: values[part] for name, values in rows.items()}
        taken = end


def _length(steps: int, at_once: int) -> int:
    check_integer("steps_at_once", at_once)
    fewest = -(-steps // at_once)
    equal = (count for count in range(fewest, 2 * steps // at_once + 1) if steps % count == 0)
    return -(-steps // next(equal, fewest))


def in_float64(sums: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """On the host, also where they were restored to a device, which adds up in float32."""
    return {name: np.asarray(value, np.float64) for name, value in sums.items()}
