"""Every loss once, with its definition in float64 NumPy; test_contract.py tests them.

A definition takes the scores of the included examples ``[n, C]`` and what is positive among them,
and gives their losses ``[n]``. What the gradient does not flow through is computed from `at`. It is
written from the formula, not from the implementation.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import special

from lnl_jax import semi_supervised

EXAMPLES, CLASSES = 10, 3
# Class 2 has no positive; what is neither 0 nor 1 is unlabelled too.
LABELS = np.array(
    [[1, 0, -1], [0, 1, 0], [1, -1, 7], [0, 0, 0], [0, 1, -1]] + 5 * [[1, 0, 0], [0, 1, -1]],
    np.int32,
)[:EXAMPLES]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A loss as a function of scores ``[B, C]``, a mask and its hyperparameters; its definition.

    `bounds`: what the message says of a hyperparameter; `outside`: numbers beyond them. `moves`: to
    which of them gradients flow. `masked`: whether it takes a mask. `largest`: up to which scores
    it is finite in float32.
    """

    call: Callable
    definition: Callable
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    bounds: dict[str, str] = dataclasses.field(default_factory=dict)
    outside: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    moves: tuple[str, ...] = ()
    masked: bool = False
    largest: float = 1e30

    def __call__(self, scores, where=None, **changes):
        masked = {"where": where} if self.masked else {}
        return self.call(scores, **self.numbers | masked | changes)

    def expected(self, scores, where, at=None, **changes):
        """The losses ``[B]``, 0 for those that are left out."""
        scores = np.asarray(scores, np.float64)
        at = scores if at is None else at
        where = where if self.masked else np.ones(len(scores), bool)
        losses = np.zeros(scores.shape[: 1 if self.numbers else 2])
        if where.any():
            losses[where] = self.definition(
                scores[where], LABELS[where] == 1, at[where], **self.numbers | changes
            )
        return losses


def surrogate(scores, positive, at):
    return 1 / (1 + np.exp(scores))


def nn_pu(scores, positive, at, *, prior):
    f, f_at, positive = scores[:, 0], at[:, 0], positive[:, 0]

    def s(z):
        return special.expit(-z)

    bracket = s(-f_at[~positive]).mean() - prior * s(-f_at[positive]).mean()
    k = bracket if np.isnan(bracket) else float(bracket >= 0)
    of_positives = len(f) / positive.sum() * prior * (s(f) - k * s(-f))
    return np.where(positive, of_positives, len(f) / (~positive).sum() * k * s(-f))


def pu_mlc(scores, positive, at, *, alpha, gamma):
    temperature = np.maximum(1e-6, np.minimum(1, alpha * at.std(0)))
    weight = special.expit(at / temperature).mean(0) ** gamma
    log_phi = special.log_expit(scores / temperature)
    log_mean = special.logsumexp(log_phi, axis=0) - np.log(len(scores))
    own = len(scores) * positive * log_phi / np.maximum(positive.sum(0), 1)
    return (weight * log_mean - own).sum(1)


def mixture(scores):
    """Those of the mixed inputs, of the inputs and of their partners."""
    return 0.5 * scores[::-1], scores, -scores[::-1]


def pu_mlc_consistency(scores, positive, at, *, mix):
    mixed, own, partner = mixture(scores)
    own = np.where(positive, 0, special.log_expit(own)) + np.log(mix)
    partner = np.where(positive[::-1], 0, special.log_expit(partner)) + np.log(1 - mix)
    return ((np.logaddexp(own, partner) - special.log_expit(mixed)) ** 2).sum(1)


# By name, of `semi_supervised.NAME`.
CASES = {
    "sigmoid_surrogate": Case(semi_supervised.sigmoid_surrogate, surrogate),
    "nn_pu": Case(
        lambda scores, **given: semi_supervised.nn_pu(scores[:, 0], LABELS[:, 0], **given),
        nn_pu,
        {"prior": 0.3},
        {"prior": "above 0 and below 1"},
        {"prior": (0.0, 1.0)},
        moves=("prior",),
        masked=True,
    ),
    "pu_mlc": Case(
        lambda scores, **given: semi_supervised.pu_mlc(scores, LABELS, **given),
        pu_mlc,
        {"alpha": 0.4, "gamma": 0.5},
        {"alpha": "above 0 and finite", "gamma": "at least 0 and finite"},
        {"alpha": (0.0, np.inf), "gamma": (-0.1, np.inf)},
        masked=True,
    ),
    "pu_mlc_consistency": Case(
        lambda scores, **given: semi_supervised.pu_mlc_consistency(
            *mixture(scores), LABELS, LABELS[::-1], **given
        ),
        pu_mlc_consistency,
        {"mix": 0.3},
        {"mix": "at least 0 and at most 1"},
        {"mix": (-0.1, 1.2)},
        # The square of a distance of 1e30 is infinite.
        largest=1e15,
    ),
}
# Public names without a definition here, each with its reason.
ELSEWHERE = {}
