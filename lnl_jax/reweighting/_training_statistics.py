"""What STORM knows of an example: statistics of its losses over several stochastic passes."""

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import as_array
from lnl_jax._host_arguments import check_integer


def storm_features(losses: Array, confidences: Array, groups: Array, *, num_groups: int) -> Array:
    r"""Features of a batch from several passes with dropout, beside those of like examples.

    Six statistics of each example: the mean and the standard deviation over the passes of its loss
    and of its largest probability; and how its losses, as a normal distribution, compare with those
    of its group, the normal distribution of all its members' mean losses:
    :func:`gaussian_kl` and :func:`gaussian_overlap`. Each comes with its mean and standard
    deviation within the group.

    The published code forms groups by the given class and by whether the passes agree with the
    label; which of them a feature is compared with, the sources at hand do not settle, so that the
    groups are an argument.

    Args:
        losses: of the passes, ``[R, B]``.
        confidences: the largest probability in each, ``[R, B]``.
        groups: the group of each example, integers from 0 to G - 1, ``[B]``.
        num_groups: G.

    Returns:
        ``[B, 18]``, in the dtype of `losses`: each statistic, its mean and its deviation in the
        group. Deviations of one number are 0. No gradient flows to any argument.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> losses = jnp.array([[0.1, 2.0, 0.3], [0.3, 1.0, 0.1]])
        >>> features = storm_features(losses, jnp.exp(-losses), jnp.array([0, 1, 0]), num_groups=2)
        >>> features[0, :3].tolist()
        [0.2, 0.2, 0.0]

    References:
        Heck et al., "Learning from Noisy Labels via Self-Taught On-the-Fly Meta Loss Rescaling"
        (AAAI 2025), the features of the rescaler.
    """
    losses, confidences = (jax.lax.stop_gradient(jnp.asarray(a)) for a in (losses, confidences))
    check_integer("num_groups", num_groups)
    if losses.ndim != 2 or losses.shape != confidences.shape:
        raise ValueError(
            "losses and confidences must have the same shape [R, B], a pass first; got "
            f"{losses.shape} and {confidences.shape}."
        )
    groups = jnp.asarray(groups)
    if groups.shape != losses.shape[1:] or not jnp.issubdtype(groups.dtype, jnp.integer):
        raise ValueError(
            f"groups must be integers of shape {losses.shape[1:]}, got {groups.dtype} of shape "
            f"{groups.shape}."
        )
    own = [*_over_passes(losses), *_over_passes(confidences)]
    of_group = _within(own[0], groups, num_groups)
    own += [gaussian_kl(own[0], own[1], *of_group), gaussian_overlap(own[0], own[1], *of_group)]
    columns = [part for values in own for part in (values, *_within(values, groups, num_groups))]
    return jnp.stack(columns, -1).astype(losses.dtype)


def majority_agreement(predictions: Array, labels: Array) -> Array:
    """Whether most of several passes predict the given label; the first pass decides a tie.

    Args:
        predictions: classes, integers, ``[R, B]``.
        labels: integers, ``[B]``.

    Returns:
        Boolean, ``[B]``.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> majority_agreement(jnp.array([[0, 1], [1, 1]]), jnp.array([0, 0])).tolist()
        [True, False]

    References:
        As :func:`storm_features`.
    """
    predictions, labels = (as_array("predictions", predictions), as_array("labels", labels))
    if predictions.ndim != 2 or predictions.shape[1:] != labels.shape:
        raise ValueError(
            "predictions must have the shape [R, B] and labels [B], got "
            f"{predictions.shape} and {labels.shape}."
        )
    agree = predictions == labels[None]
    votes = agree.sum(0)
    return jnp.where(2 * votes == len(predictions), agree[0], 2 * votes > len(predictions))


def gaussian_kl(mean: Array, deviation: Array, other_mean: Array, other_deviation: Array) -> Array:
    r"""The Kullback-Leibler divergence of two normal distributions.

    .. math::
        \log \frac{\sigma_q}{\sigma_p} + \frac{\sigma_p^2 + (\mu_p - \mu_q)^2}{2 \sigma_q^2}
        - \frac{1}{2}

    Args:
        mean: :math:`\mu_p`.
        deviation: :math:`\sigma_p`, at least 0.
        other_mean: :math:`\mu_q`.
        other_deviation: :math:`\sigma_q`, at least 0.

    Returns:
        In their common shape; 0 where a deviation is 0.

    Raises:
        ValueError: if the shapes do not broadcast.

    Example:
        >>> round(float(gaussian_kl(0.0, 1.0, 1.0, 2.0)), 3)
        0.443

    References:
        As :func:`storm_features`.
    """
    some = (deviation > 0) & (other_deviation > 0)
    p, q = (jnp.where(some, d, 1.0) for d in (deviation, other_deviation))
    value = jnp.log(q / p) + (p**2 + (mean - other_mean) ** 2) / (2 * q**2) - 0.5
    return jnp.where(some, value, 0)


def gaussian_overlap(
    mean: Array, deviation: Array, other_mean: Array, other_deviation: Array
) -> Array:
    r"""The area under the smaller of two normal densities.

    .. math::
        \int \min(p(x), q(x))\, dx

    Args:
        mean: of the first.
        deviation: of the first, at least 0.
        other_mean: of the second.
        other_deviation: of the second, at least 0.

    Returns:
        In their common shape, from 0 to 1; 0 where a deviation is 0.

    Raises:
        ValueError: if the shapes do not broadcast.

    Example:
        >>> round(float(gaussian_overlap(0.0, 1.0, 2.0, 1.0)), 3)
        0.317

    References:
        As :func:`storm_features`.
    """
    some = (deviation > 0) & (other_deviation > 0)
    p, q = (jnp.where(some, d, 1.0) for d in (deviation, other_deviation))
    gap = mean - other_mean
    # In units of the narrower one, from its mean, the densities cross where a quadratic is 0.
    first_is_narrow = p <= q
    narrow, wide = jnp.where(first_is_narrow, p, q), jnp.where(first_is_narrow, q, p)
    shift = jnp.where(first_is_narrow, -gap, gap) / narrow
    ratio = wide / narrow
    equal = ratio - 1 < 1e-4
    safe = jnp.where(equal, 2.0, ratio)
    root = safe * jnp.sqrt(shift**2 + 2 * (safe**2 - 1) * jnp.log(safe))
    low, high = (-shift - root) / (safe**2 - 1), (-shift + root) / (safe**2 - 1)

    def between(low, high):
        return jax.scipy.stats.norm.cdf(high) - jax.scipy.stats.norm.cdf(low)

    wide_inside = between((low - shift) / safe, (high - shift) / safe)
    crossing = wide_inside + 1 - between(low, high)
    alike = 2 * jax.scipy.stats.norm.cdf(-jnp.abs(shift) / (1 + ratio))
    return jnp.where(some, jnp.clip(jnp.where(equal, alike, crossing), 0, 1), 0)


def _over_passes(values: Array) -> tuple[Array, Array]:
    deviation = values.std(0, ddof=1) if len(values) > 1 else jnp.zeros_like(values[0])
    return values.mean(0), deviation


def _within(values: Array, groups: Array, num_groups: int) -> tuple[Array, Array]:
    """Mean and unbiased deviation of the values of each example's group."""

    def total(values):
        return jax.ops.segment_sum(values, groups, num_groups)

    count = total(jnp.ones_like(values))
    mean = total(values) / jnp.maximum(count, 1)
    squares = total((values - mean[groups]) ** 2)
    return mean[groups], jnp.sqrt(squares / jnp.maximum(count - 1, 1))[groups]
