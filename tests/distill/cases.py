"""Every objective of distillation once, with its definition in float64 NumPy.

A reference takes the scores of student and teacher for one example, its label as a distribution and
the hyperparameters, and is written from the definition; test_objectives.py tests them all.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import special

from lnl_jax import distill


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """An objective, its definition and values for its hyperparameters.

    `labels`: "none", "classes", or "either" where distributions are taken too. `infinite`: why
    minus infinity in the scores has no finite value, or empty where a class that scores so on both
    sides is a class that is not there. `outside`: values out of range.
    """

    function: Callable
    reference: Callable
    hyperparameters: dict[str, float]
    outside: dict[str, float]
    labels: str = "none"
    infinite: str = ""

    def __call__(self, logits, targets, labels, **overrides):
        arguments = (logits, targets) if self.labels == "none" else (logits, targets, labels)
        return self.function(*arguments, **self.hyperparameters | overrides)

    def expected(self, logits, targets, labels, **overrides):
        logits, targets = (np.asarray(values, np.float64) for values in (logits, targets))
        truth = np.eye(logits.shape[-1])[np.asarray(labels)]
        settings = self.hyperparameters | overrides
        rows = zip(logits, targets, truth, strict=True)
        return np.array([self.reference(*row, **settings) for row in rows])


def log_softmax(scores):
    return scores - special.logsumexp(scores)


def kl(z, t, y, *, temperature):
    wanted, found = log_softmax(t / temperature), log_softmax(z / temperature)
    kept = np.isfinite(wanted)
    return np.exp(wanted[kept]) @ (wanted[kept] - found[kept])


def mse(z, t, y, *, ce_weight):
    return np.mean((z - t) ** 2) - ce_weight * y @ log_softmax(z)


def soft_cross_entropy(z, t, y):
    p = special.softmax(t)
    return -p[p > 0] @ log_softmax(z)[p > 0]


def centred_mse(z, t, y, *, ce_weight):
    gap = z - t - np.mean(z - t)
    return np.mean(gap**2) - ce_weight * y @ log_softmax(z)


SQUARES = "a squared error to minus infinity is infinite"
WEIGHT = {"ce_weight": 0.3}, {"ce_weight": -0.1}
OBJECTIVES = {
    "distillation_kl": Objective(
        distill.labels.distillation_kl, kl, {"temperature": 2.0}, {"temperature": 0.0}
    ),
    "distillation_mse": Objective(distill.labels.distillation_mse, mse, *WEIGHT, "either", SQUARES),
    "soft_cross_entropy": Objective(distill.labels.soft_cross_entropy, soft_cross_entropy, {}, {}),
    "projector_loss": Objective(
        distill.projectors.projector_loss, centred_mse, *WEIGHT, "classes", SQUARES
    ),
}
