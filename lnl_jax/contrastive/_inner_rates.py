"""How much of the inner mean a visit replaces: rates that a schedule or the rows set."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import check_range, in_range


def cosine_gamma(epoch: ArrayLike, *, minimum: float, decay_epochs: int) -> Array:
    r"""The inner rate falls from 1 to its minimum along a half cosine.

    .. math::
        \gamma(e) = \gamma_{min} + \frac{1 - \gamma_{min}}{2} (1 + \cos(\pi e / E)),
        \qquad \gamma_{min} \text{ from } e = E \text{ on}

    Args:
        epoch: e, counted from 0, any shape.
        minimum: :math:`\gamma_{min}`, in (0, 1].
        decay_epochs: E, at least 1; about half of all epochs.

    Returns:
        The rate, of the shape of `epoch`, in its dtype if that is floating, else in float32.

    Raises:
        ValueError: for a minimum or a number of epochs out of range.

    Example:
        >>> cosine_gamma(jnp.array([0, 2, 4]), minimum=0.2, decay_epochs=4).tolist()
        [1.000, 0.600, 0.200]

    References:
        Wei et al., "FastCLIP: A Suite of Optimization Techniques to Accelerate CLIP Training with
        Limited Resources" (2024), section 4.
    """
    check_range("decay_epochs", decay_epochs, at_least=1, below=math.inf)
    epoch = jnp.asarray(epoch)
    epoch = epoch if jnp.issubdtype(epoch.dtype, jnp.floating) else epoch.astype(jnp.float32)
    minimum = in_range("minimum", minimum, epoch.dtype, above=0, at_most=1)
    done = jnp.clip(epoch / decay_epochs, 0, 1)
    return minimum + (1 - minimum) / 2 * (1 + jnp.cos(jnp.pi * done))


def scent_gamma(log_u: Array, *, log_step: ArrayLike = 10.0) -> Array:
    r"""SCENT's inner rate: the larger the stored average, the more of it a visit replaces.

    .. math:: \gamma_i = \mathrm{sigmoid}(a + \log u_i)

    The moving average of `sogclr` then makes a proximal step of mirror descent, of length
    :math:`e^a`, on :math:`g_i e^{-\nu} + \nu` with :math:`\nu = \log u_i`. Where positives are
    nearer than negatives by d, :math:`\log u` is about :math:`-d / \tau`: steps a below that keep
    most of the past, larger ones little.

    Args:
        log_u: :math:`\log u`, ``[B]``, after the last visit; ``-inf`` before the first.
        log_step: :math:`a`, finite, the logarithm of the length of a step, a scalar or one per
            example, ``[B]``.

    Returns:
        :math:`\gamma`, in the shape and dtype of `log_u`: 1 at the first visit, and above 0.

    Raises:
        ValueError: for a step out of range or of another shape, or integers for `log_u`.

    Example:
        >>> scent_gamma(jnp.array([-jnp.inf, -3.0, 0.0]), log_step=1.0).tolist()
        [1.000, 0.119, 0.731]

    References:
        Wei et al., "A Geometry-Aware Efficient Algorithm for Compositional Entropic Risk
        Minimization" (2026), arXiv 2602.02877, SCENT with a global contrastive loss.
    """
    log_u = jnp.asarray(log_u)
    if not jnp.issubdtype(log_u.dtype, jnp.floating):
        raise ValueError(f"log_u must be floating, got {log_u.dtype}.")
    log_step = in_range("log_step", log_step, log_u.dtype, above=-math.inf, below=math.inf)
    if log_step.shape not in ((), log_u.shape):
        raise ValueError(
            f"log_step must be a scalar or one per example, {log_u.shape}; got shape "
            f"{log_step.shape}."
        )
    # An average too small for its rate to be told from 0 still takes something in.
    rate = jnp.maximum(jax.nn.sigmoid(log_step + log_u), jnp.finfo(log_u.dtype).tiny)
    return jnp.where(log_u == -jnp.inf, 1, rate)
