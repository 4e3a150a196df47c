"""Paired statistics over data sets, grids of settings, and settings as text."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from lnl_jax.comparison.runs import Setting


def paired_gain(values: np.ndarray, baseline: np.ndarray) -> dict[str, float | None]:
    """Mean and deviation of the difference over seeds, and its ratio to the standard error.

    Args:
        values: of a method, ``[D]``.
        baseline: of what it is compared with, on the same data sets, ``[D]``.

    Returns:
        ``gain``, ``std of gain`` and ``gain / its s.e.``; the last two are None of one data set.
    """
    differences = values - baseline
    gain, width = differences.mean(), standard_deviation(differences)
    ratio = gain / (width / len(differences) ** 0.5) if width else None
    return {"gain": gain, "std of gain": width, "gain / its s.e.": ratio}


def standard_deviation(values: np.ndarray) -> float | None:
    """That of a sample, ``[D]``; None of a single value."""
    return values.std(ddof=1) if len(values) > 1 else None


def mean_and_std(values: np.ndarray, name: str) -> dict[str, Any]:
    """Mean and deviation over seeds as columns.

    Args:
        values: ``[D]``.
        name: of the column of the mean.

    Returns:
        ``name`` and ``std of name``, which is None of one seed.
    """
    values = values.astype(np.float64)
    width = standard_deviation(values)
    return {name: float(values.mean()), f"std of {name}": None if width is None else float(width)}


def setting_text(setting: Setting) -> str:
    """A setting as text: ``q 0.7, learning_rate 0.1``; the numbers of a tuple with slashes."""
    return ", ".join(
        f"{key} {'/'.join(f'{part:g}' for part in np.atleast_1d(value))}"
        for key, value in setting.items()
    )


def grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """All combinations of hyperparameters, the last key varying fastest.

    Args:
        **values: the values of each.

    Returns:
        Dicts with a value for each key.
    """
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]
