"""Two groups of losses, small and large: a mixture fitted without a draw."""

from typing import NamedTuple

import numpy as np
from scipy.special import betaln, softmax

from lnl_jax._host_arguments import check_integer, check_number, host_array

# Of a beta density at 0 or 1, which may be infinite.
EDGE = 1e-4
SMALLEST = 1e-12


class LossMixture(NamedTuple):
    """Two normal components of losses that were scaled to 0 to 1, the smaller mean first.

    Attributes:
        clean: probability that the loss belongs to the first component, ``[N]``.
        means: ``[2]``.
        variances: ``[2]``.
        weights: shares of the components, ``[2]``.

    Example:
        >>> LossMixture._fields
        ('clean', 'means', 'variances', 'weights')
    """

    clean: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    weights: np.ndarray


class BetaLossMixture(NamedTuple):
    """Two beta components of losses that were scaled to 0 to 1, the smaller mean first.

    Attributes:
        clean: probability that the loss belongs to the first component, ``[N]``.
        alphas: ``[2]``.
        betas: ``[2]``.
        weights: shares of the components, ``[2]``.

    Example:
        >>> BetaLossMixture._fields
        ('clean', 'alphas', 'betas', 'weights')
    """

    clean: np.ndarray
    alphas: np.ndarray
    betas: np.ndarray
    weights: np.ndarray


def loss_mixture(
    losses: np.ndarray, *, num_steps: int = 10, variance_floor: float = 5e-4
) -> LossMixture:
    r"""Probability that a loss is one of the small ones, by a mixture of two normals.

    Losses are scaled to 0 to 1. EM starts at the means 0 and 1, equal weights and the variance of
    all, and takes a fixed number of steps, so that the same losses give the same answer:

    .. math::
        r_{ic} \propto \pi_c \, \mathcal N(\ell_i; \mu_c, \sigma_c^2), \quad
        \pi_c = \bar r_c, \quad \mu_c = \frac{\sum_i r_{ic} \ell_i}{\sum_i r_{ic}}, \quad
        \sigma_c^2 = \frac{\sum_i r_{ic} (\ell_i - \mu_c)^2}{\sum_i r_{ic}} + \epsilon

    Args:
        losses: finite, ``[N]``; of an example in evaluation mode, or its mean of a few epochs.
        num_steps: of EM, at least 1. Fits that stop early depend on where they start; some 100
            steps converge.
        variance_floor: :math:`\epsilon`, at least 0, which is added to every variance but the
            first ones.

    Returns:
        The probabilities and the components. Losses that are all equal are clean with probability
        1/2.

    Raises:
        ValueError: if the losses are not finite, ``[N]``, or a number is out of range.

    Example:
        >>> mixture = loss_mixture(np.array([0.1, 0.2, 0.15, 2.0, 1.9]))
        >>> mixture.clean.round(2).tolist()
        [1.0, 1.0, 1.0, 0.0, 0.0]

    References:
        Li, Socher and Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised Learning"
        (ICLR 2020), section 3.1; the start there is k-means of a random state.
    """
    scaled = _scaled(losses)
    check_integer("num_steps", num_steps)
    check_number("variance_floor", variance_floor, at_least=0)
    if not scaled.any():
        half = np.full(2, 0.5)
        return LossMixture(np.full(len(scaled), 0.5), np.zeros(2), np.full(2, variance_floor), half)
    means, weights = np.array([0.0, 1.0]), np.full(2, 0.5)
    variances = np.full(2, scaled.var())
    for _ in range(num_steps):
        shares = _normal_shares(scaled, means, variances, weights)
        totals = shares.sum(0)
        weights, means = totals / len(scaled), scaled @ shares / totals
        spread = ((scaled[:, None] - means) ** 2 * shares).sum(0) / totals
        # Of a component that holds one value, no density is infinite.
        variances = np.maximum(spread + variance_floor, SMALLEST)
    order = np.argsort(means, kind="stable")
    means, variances, weights = means[order], variances[order], weights[order]
    clean = _normal_shares(scaled, means, variances, weights)[:, 0]
    return LossMixture(clean, means, variances, weights)


def beta_loss_mixture(losses: np.ndarray, *, num_steps: int = 10) -> BetaLossMixture:
    r"""Probability that a loss is one of the small ones, by a mixture of two beta densities.

    Losses are scaled to 0 to 1 and kept 1e-4 from both. EM starts at Beta(1, 2) and Beta(2, 1) with
    equal weights; its M step matches weighted means m and variances v,
    :math:`\alpha = m (m (1 - m) / v - 1)`, :math:`\beta = \alpha (1 - m) / m`. In the end the
    probability of the second component is held at its maximum beyond it, as a beta density may fall
    again at the largest losses.

    Args:
        losses: finite, ``[N]``; the largest and smallest twentieth are usually clipped before.
        num_steps: of EM, at least 1.

    Returns:
        The probabilities and the components. Losses that are all equal are clean with probability
        1/2.

    Raises:
        ValueError: if the losses are not finite, ``[N]``, or a number is out of range.

    Example:
        >>> losses = np.array([0.1, 0.2, 0.15, 0.12, 2.0, 1.9, 1.8])
        >>> beta_loss_mixture(losses).clean.round(1).tolist()
        [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]

    References:
        Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction" (ICML 2019), section
        3.1.
    """
    scaled = _scaled(losses)
    check_integer("num_steps", num_steps)
    alphas, betas, weights = np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.full(2, 0.5)
    if not scaled.any():
        return BetaLossMixture(np.full(len(scaled), 0.5), alphas, betas, weights)
    scaled = np.clip(scaled, EDGE, 1 - EDGE)
    for _ in range(num_steps):
        shares = _beta_shares(scaled, alphas, betas, weights)
        totals = shares.sum(0)
        means = scaled @ shares / totals
        variances = ((scaled[:, None] - means) ** 2 * shares).sum(0) / totals
        alphas = means * (means * (1 - means) / np.maximum(variances, SMALLEST) - 1)
        betas, weights = alphas * (1 - means) / means, totals / len(scaled)
    order = np.argsort(alphas / (alphas + betas), kind="stable")
    alphas, betas, weights = alphas[order], betas[order], weights[order]
    noisy = _beta_shares(scaled, alphas, betas, weights)[:, 1]
    rising = np.argsort(scaled, kind="stable")
    noisy[rising] = np.where(
        np.arange(len(noisy)) >= noisy[rising].argmax(), noisy.max(), noisy[rising]
    )
    return BetaLossMixture(1 - noisy, alphas, betas, weights)


def _scaled(losses: np.ndarray) -> np.ndarray:
    losses = host_array("losses", losses, np.float64)
    if losses.ndim != 1 or not len(losses):
        raise ValueError(f"losses must have the shape [N], got {losses.shape}.")
    broken = np.flatnonzero(~np.isfinite(losses))
    if broken.size:
        raise ValueError(
            f"losses must be finite; {broken.size} of {len(losses)} are not, the first in row "
            f"{broken[0]}: {losses[broken[0]]}."
        )
    # Halves, as the range of the largest numbers is none.
    spread = losses.max() / 2 - losses.min() / 2
    return (losses / 2 - losses.min() / 2) / spread if spread > 0 else np.zeros(len(losses))


def _normal_shares(
    values: np.ndarray, means: np.ndarray, variances: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    logs = -((values[:, None] - means) ** 2) / variances / 2 - np.log(variances) / 2
    return softmax(logs + np.log(weights), -1)


def _beta_shares(
    values: np.ndarray, alphas: np.ndarray, betas: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    values = values[:, None]
    logs = (alphas - 1) * np.log(values) + (betas - 1) * np.log1p(-values) - betaln(alphas, betas)
    return np.maximum(softmax(logs + np.log(weights), -1), SMALLEST)
