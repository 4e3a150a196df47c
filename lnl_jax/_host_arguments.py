"""What functions on the host check of their numbers, before anything is traced.

A message names the argument, what was given and what to do.
"""

import math
import numbers
from collections.abc import Mapping, Sequence

import numpy as np


def is_finite_number(value: float) -> bool:
    """Whether it is one real number, neither boolean nor infinite nor NaN."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    return number and math.isfinite(value)


def check_integer(name: str, value: int, *, at_least: int, at_most: int | None = None) -> None:
    """Raises ValueError unless the value is an integer within the bounds."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
    if not integer or value < at_least or (at_most is not None and value > at_most):
        to = "" if at_most is None else f" and at most {at_most}"
        raise ValueError(f"{name} must be an integer of at least {at_least}{to}, got {value!r}.")


def check_number(
    name: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Raises ValueError unless the value is one finite number within the bounds."""
    within = (
        is_finite_number(value)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if not within:
        bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
        allowed = " and ".join(f"{word} {v:g}" for word, v in bounds.items() if v is not None)
        raise ValueError(
            f"{name} must be a finite number{' ' * bool(allowed)}{allowed}, got {value!r}."
        )


def check_seed(name: str, value: int | Sequence[int]) -> None:
    """Raises ValueError unless the value is an integer from 0 on, or a sequence of such."""
    for one in value if isinstance(value, list | tuple | np.ndarray) else (value,):
        check_integer(name, one, at_least=0)


def common_length(dataset: Mapping) -> int:
    """N, or raises ValueError where the columns of a data set differ in it, or there are none."""
    lengths = {name: len(values) for name, values in dataset.items()}
    if len(set(lengths.values())) != 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items()) or "none"
        raise ValueError(f"dataset must hold columns of one length, got {shown}.")
    return next(iter(lengths.values()))


def check_generator(name: str, rng: np.random.Generator) -> None:
    """Raises ValueError unless random numbers can be drawn from it."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"{name} must be a numpy.random.Generator, got {type(rng).__name__}; "
            "np.random.default_rng(0) makes one of a seed."
        )
