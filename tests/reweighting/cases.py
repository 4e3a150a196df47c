"""Every rule once, with its definition in float64 NumPy; test_contract.py tests them.

A definition takes the included losses ``[n]`` and the hyperparameter, for groups their numbers and
the old q as well, and gives the weights ``[n]``; it is written from the formula, not from the
implementation.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from lnl_jax import reweighting

EXAMPLES = 12
GROUPS = np.arange(EXAMPLES, dtype=np.int32) % 3
Q = np.array([0.2, 0.3, 0.5])


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """The two functions of a rule, its weights, and its hyperparameter.

    `weigh` and `value` are those of the library as functions of losses, hyperparameter and mask.
    `price`: what the value is less than the weighted mean. `bounds`: what the message says of the
    hyperparameter; `outside`: numbers beyond them. `moves`: whether the value has a gradient in the
    hyperparameter. `held`: the weights move with the losses, but the value's gradient is theirs.
    """

    names: tuple[str, str]
    weights: Callable
    hyperparameter: str
    number: float
    bounds: str
    outside: tuple[float, ...]
    price: Callable = lambda weights, number: 0.0
    moves: bool = False
    held: bool = False

    def weigh(self, losses, number, where=None):
        return self._call(0, losses, number, where)

    def value(self, losses, number, where=None):
        return self._call(1, losses, number, where)

    def _call(self, kind, losses, number, where):
        function = getattr(reweighting, self.names[kind])
        given = {self.hyperparameter: number, "where": where}
        if "group" not in self.names[kind]:
            return function(losses, **given)
        # Without the new rows, which test_dro.py has.
        dtype = jnp.float64 if losses.dtype == jnp.float64 else jnp.float32
        rows = jnp.log(jnp.asarray(Q, dtype))
        return function(losses, GROUPS[: np.size(losses)], rows, **given)[0]

    def expected(self, losses, number, where):
        """Weights ``[B]`` and value for a batch."""
        losses = np.asarray(losses, np.float64)
        weights = np.zeros(len(losses))
        if not where.any():
            return weights, 0.0
        if not np.isfinite(losses[where]).all():
            return np.where(where, np.nan, 0), np.nan
        groups = GROUPS[: len(losses)][where]
        weights[where] = self.weights(losses[where], number, groups)
        value = weights[where] @ losses[where] - self.price(weights[where], number)
        return weights, value


def divergence(weights):
    """Kullback and Leibler's, from uniform."""
    return special.xlogy(weights, weights * len(weights)).sum()


def kl_dro(losses, temperature, groups):
    return special.softmax(losses / temperature)


def on_the_largest(losses):
    largest = losses == losses.max()
    return largest / largest.sum()


def kl_ball(losses, radius, groups):
    """The softmax whose divergence is the radius."""
    last = on_the_largest(losses)
    if np.ptp(losses) == 0 or radius >= divergence(last):
        return last
    gaps = (losses - losses.max()) / np.ptp(losses)

    def tilted(log_inverse):
        return special.softmax(gaps * np.exp(log_inverse))

    return tilted(
        optimize.brentq(lambda log: divergence(tilted(log)) - radius, -30, 30, xtol=1e-15)
    )


def chi2_ball(losses, radius, groups):
    """The positive parts above a threshold, at which the distance is the radius."""
    n, last = len(losses), on_the_largest(losses)

    def distance(weights):
        return ((n * weights - 1) ** 2).mean() / 2

    if np.ptp(losses) == 0 or radius >= distance(last):
        return last
    gaps = (losses - losses.max()) / np.ptp(losses)

    def above(threshold):
        parts = np.maximum(gaps - threshold, 0)
        return parts / parts.sum()

    # With the largest and the second-largest losses it is at least the radius; far below, nearly 0.
    second = gaps[gaps < 0].max()
    return above(
        optimize.brentq(lambda t: distance(above(t)) - radius, -1e6, second, xtol=1e-15, rtol=1e-15)
    )


def cvar(losses, fraction, groups):
    """Equal for as many of the largest as the fraction has; those that tie share what is left."""
    n = len(losses)
    cap, left, weights = max(1 / (fraction * n), 1 / n), 1.0, np.zeros(n)
    for level in np.unique(losses)[::-1]:
        tied = losses == level
        weights[tied] = min(cap, left / tied.sum())
        left -= weights[tied].sum()
    return weights


def new_q(losses, step_size, groups):
    means = [losses[groups == g].mean() if (groups == g).any() else 0 for g in range(len(Q))]
    q = Q * np.exp(step_size * (np.array(means) - max(means)))
    return q / q.sum()


def group_dro(losses, step_size, groups):
    sizes = np.array([(groups == g).sum() for g in groups])
    return new_q(losses, step_size, groups)[groups] / sizes


CASES = {
    "kl_dro": Case(
        ("kl_dro_weights", "kl_dro_value"),
        kl_dro,
        "temperature",
        0.7,
        "above 0 and finite",
        (0.0, -1.0, np.inf),
        price=lambda weights, temperature: temperature * divergence(weights),
        moves=True,
    ),
    "kl_ball": Case(
        ("kl_ball_weights", "kl_ball_value"), kl_ball, "radius", 0.3, "at least 0", (-1.0,)
    ),
    "chi2_ball": Case(
        ("chi2_ball_weights", "chi2_ball_value"), chi2_ball, "radius", 0.6, "at least 0", (-1.0,)
    ),
    "cvar": Case(
        ("cvar_weights", "cvar_value"),
        cvar,
        "fraction",
        0.35,
        "above 0 and at most 1",
        (0.0, 1.5),
    ),
    "group_dro": Case(
        ("group_dro_weights", "group_dro_value"),
        group_dro,
        "step_size",
        0.4,
        "at least 0 and finite",
        (-0.1, np.inf),
        held=True,
    ),
}
# Public names without a definition here, each with its reason.
ELSEWHERE = dict.fromkeys(
    ("co_teaching_weights", "small_loss_weights", "small_loss_weights_by_class"),
    "no worst weights of a ball or price: test_small_loss.py",
) | dict.fromkeys(
    (
        "gaussian_kl",
        "gaussian_overlap",
        "majority_agreement",
        "meta_gradient",
        "rescale_preserving_sum",
        "storm_features",
        "uncertainty_weights",
    ),
    "not of losses alone: test_learned_weights.py",
)
