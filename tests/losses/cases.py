"""Every loss once, with its definition in float64 NumPy; test_contract.py tests them all.

A reference takes the scores of one example, its label as a distribution and the hyperparameters,
and is written from the definition, not from the implementation.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from lnl_jax import losses


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A loss, its definition, values for its traced hyperparameters, and its static ones.

    `detached`: its gradient is by design not that of its value; test_golden.py checks it.
    """

    function: Callable
    reference: Callable
    hyperparameters: dict[str, float]
    static: dict[str, int] = dataclasses.field(default_factory=dict)
    detached: bool = False

    def __call__(self, logits, labels, **overrides):
        return self.function(logits, labels, **{**self.hyperparameters, **self.static, **overrides})

    def expected(self, logits, labels, **overrides):
        """The reference for each example of a batch, integer or soft labels."""
        logits = np.asarray(logits, np.float64)
        labels = np.asarray(labels)
        if labels.ndim < logits.ndim:
            labels = np.eye(logits.shape[-1])[labels]
        settings = {**self.hyperparameters, **self.static, **overrides}
        return np.array(
            [self.reference(f, y, **settings) for f, y in zip(logits, labels, strict=True)]
        )


def gaps(f, y, margin):
    return f - y @ f + margin * (1 - y)


def divergence_from_uniform(p):
    return special.xlogy(p, p * len(p)).sum()


def ldr_kl(f, y, *, temperature, margin, top_k=1):
    """The maximum over p <= 1/k itself: p from its optimality condition, the value from p."""
    delta = gaps(f, y, margin)

    def mass(level):
        return np.minimum(
            1 / top_k, np.exp(np.minimum((delta - level) / temperature, 700)) / len(f)
        )

    low = delta.min() - temperature * 50
    high = delta.max() + temperature * 50
    p = mass(optimize.brentq(lambda level: mass(level).sum() - 1, low, high, xtol=1e-14))
    return p @ delta - temperature * divergence_from_uniform(p)


def aldr_objective(delta, temperature, initial, alpha):
    tempered = temperature * (special.logsumexp(delta / temperature) - np.log(len(delta)))
    return tempered - alpha * np.log(len(delta)) / (2 * initial) * (temperature - initial) ** 2


def aldr_temperature(f, y, *, temperature, alpha, margin):
    """Plain iteration of the fixed-point equation from both ends, and the better of the two."""
    delta = gaps(f, y, margin)
    found = []
    for adapted in (temperature, temperature * (1 - 1 / alpha)):
        for _ in range(20_000):
            before = adapted
            p = special.softmax(delta / adapted)
            adapted = temperature * (1 - divergence_from_uniform(p) / (alpha * np.log(len(f))))
            if abs(adapted - before) < 1e-14 * temperature:
                break
        found.append(adapted)
    return max(found, key=lambda adapted: aldr_objective(delta, adapted, temperature, alpha))


def aldr_kl(f, y, *, temperature, alpha, margin):
    adapted = aldr_temperature(f, y, temperature=temperature, alpha=alpha, margin=margin)
    return aldr_objective(gaps(f, y, margin), adapted, temperature, alpha)


ROW = 0.8


def aldr_kl_step(f, y, *, temperature, alpha, margin):
    p = special.softmax(f / ROW) + 1e-5
    p /= p.sum()
    adapted = temperature * (1 - divergence_from_uniform(p) / (alpha * np.log(len(f))))
    return aldr_objective(gaps(f, y, margin), adapted, temperature, alpha)


def first_visit(logits, labels, *, axis=-1, **hyperparameters):
    """`aldr_kl_step` as a loss: every example's stored temperature is ROW."""
    batch_shape = np.delete(np.shape(logits), axis)
    rows = jnp.full(tuple(batch_shape), ROW, jnp.float32)
    return losses.aldr_kl_step(logits, labels, rows, axis=axis, **hyperparameters)[0]


def generalized_cross_entropy(f, y, *, q):
    return (1 - (y @ special.softmax(f)) ** q) / q


CASES = {
    "ldr_kl": Case(losses.ldr_kl, ldr_kl, {"temperature": 0.7, "margin": 0.0}),
    "ldr_kl_margin": Case(losses.ldr_kl, ldr_kl, {"temperature": 2.0, "margin": 0.3}),
    "ldr_kl_top_2": Case(losses.ldr_kl, ldr_kl, {"temperature": 0.7, "margin": 0.3}, {"top_k": 2}),
    "aldr_kl": Case(losses.aldr_kl, aldr_kl, {"temperature": 1.0, "alpha": 2.0, "margin": 0.1}),
    "aldr_kl_soft": Case(
        losses.aldr_kl, aldr_kl, {"temperature": 5.0, "alpha": 1.3, "margin": 0.0}
    ),
    "aldr_kl_step": Case(
        first_visit,
        aldr_kl_step,
        {"temperature": 1.0, "alpha": 2.0, "margin": 0.1},
        detached=True,
    ),
    "generalized_cross_entropy": Case(
        losses.generalized_cross_entropy, generalized_cross_entropy, {"q": 0.7}
    ),
}
# Public names that are not losses of (logits, labels).
HELPERS = {"aldr_temperature", "l1_mean_normalize", "logit_normalize", "softplus_mean_normalize"}
