"""Labels after people have looked at those that were suspected."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lnl_jax._host_arguments import check_integer, host_array, host_classes, read_class_numbers

# What each column of the votes says of the label.
ANSWERS = ("given", "guessed", "neither", "both")


class ReviewedLabels(NamedTuple):
    """What reviewers made of suspected labels.

    Attributes:
        labels: the class that enough votes name, int32, ``[E]``; -1 where none has them, or enough
            say neither or both.
        wrong: whether too few votes are for the given class, boolean, ``[E]``.

    Example:
        >>> ReviewedLabels._fields
        ('labels', 'wrong')
    """

    labels: np.ndarray
    wrong: np.ndarray


def reviewed_labels(
    given: ArrayLike, guessed: ArrayLike, votes: ArrayLike, *, least: int = 3
) -> ReviewedLabels:
    r"""Decides suspected labels by the votes of reviewers who saw two classes.

    .. math::
        \text{wrong}_i = [v_{i,\text{given}} < m], \qquad
        \hat{y}_i = \text{given if } v_{i,\text{given}} \ge m, \;
        \text{guessed if } v_{i,\text{guessed}} \ge m > v_{i,\text{given}}, \;
        \text{else } -1

    A label is taken to be wrong unless enough reviewers confirm it; a wrong one is corrected where
    enough name the class that a model guessed. Where they say that neither class or both are there,
    or do not agree, no single class is right.

    Args:
        given: the labels, integers, ``[E]``.
        guessed: what a model says, integers, ``[E]``.
        votes: how many said given, guessed, neither and both, ``[E, 4]``.
        least: m, at least 1; 3 of five voters is the rule of the reference.

    Returns:
        `ReviewedLabels`.

    Raises:
        ValueError: if the arrays are not of one number of labels, or votes are not counts ``[E,
            4]``.

    Example:
        >>> votes = [[4, 1, 0, 0], [0, 5, 0, 0], [1, 1, 0, 3]]
        >>> found = reviewed_labels([3, 3, 3], [5, 5, 5], votes)
        >>> found.labels.tolist(), found.wrong.tolist()
        ([3, 5, -1], [False, True, True])

    References:
        Northcutt, Athalye and Mueller, "Pervasive Label Errors in Test Sets Destabilize Machine
        Learning Benchmarks" (NeurIPS 2021, Datasets and Benchmarks), section 4.
    """
    check_integer("least", least, at_least=1)
    given = read_class_numbers(given, name="given")
    guessed = host_classes(guessed, len(given), name="guessed")
    votes = host_array("votes", votes)
    if votes.shape != (len(given), len(ANSWERS)):
        raise ValueError(
            f"votes must have the shape [{len(given)}, 4], how many said {', '.join(ANSWERS)} of "
            f"each label; got {votes.shape}."
        )
    if votes.dtype.kind not in "iu":
        raise ValueError(f"votes must be counts, integers from 0 on; got {votes.dtype}.")
    if (votes < 0).any():
        raise ValueError(f"votes must be counts, integers from 0 on; the least is {votes.min()}.")
    wrong = votes[:, 0] < least
    labels = np.where(wrong, np.where(votes[:, 1] >= least, guessed, -1), given)
    return ReviewedLabels(labels.astype(np.int32), wrong)
