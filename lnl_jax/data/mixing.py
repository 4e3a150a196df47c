"""Mixtures of pairs of examples, with the targets mixed alike."""

import jax
import jax.numpy as jnp

from lnl_jax._host_arguments import check_number


def mixup(
    key: jax.Array, images: jax.Array, targets: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
    r"""Averages each example with a partner, targets included.

    .. math:: \tilde x_i = w x_i + (1 - w) x_{\pi(i)}, \qquad
        \tilde y_i = w y_i + (1 - w) y_{\pi(i)}

    with one weight :math:`w \sim \mathrm{Beta}(\alpha, \alpha)` and one random permutation
    :math:`\pi` for the batch.

    Args:
        key: of the random numbers.
        images: ``[B, ...]``; integers are averaged as float32.
        targets: distributions over the classes, ``[B, K]``.
        alpha: more than 0; the smaller, the closer a mixture is to one of its two.

    Returns:
        The mixtures, floating, with the shapes of `images` and of `targets`.

    Raises:
        ValueError: if the shapes do not fit, or `alpha` is a number that is not positive.

    Example:
        >>> images, targets = jnp.array([[0.0], [1.0]]), jnp.eye(2)
        >>> mix = jax.jit(mixup, static_argnames="alpha")
        >>> images, targets = mix(jax.random.key(0), images, targets, alpha=1.0)
        >>> bool(jnp.allclose(images[:, 0], targets[:, 1]))
        True

    References:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018), Eq. 2 and Figure 1a.
    """
    _check(images, targets, alpha)
    weight, partner = _weight_and_partner(key, len(images), alpha)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        images = images.astype(jnp.float32)
    return _mixed(weight, images, partner), _mixed(weight, targets, partner)


def cutmix(
    key: jax.Array, images: jax.Array, targets: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
    r"""Pastes a box of a partner into each image, and mixes the targets by the area.

    The box has :math:`\sqrt{1 - w}` times the height and width of the image, rounded down, with
    :math:`w \sim \mathrm{Beta}(\alpha, \alpha)`; its middle is a random pixel, and what is outside
    of the image is cut off. The targets get

    .. math:: \tilde y_i = (1 - a) y_i + a\, y_{\pi(i)}

    where a is the fraction of pixels that the box really covers. Box, weight and permutation
    :math:`\pi` are one for the batch.

    Args:
        key: of the random numbers.
        images: ``[B, H, W, C]``.
        targets: distributions over the classes, ``[B, K]``.
        alpha: more than 0; 1 makes the area that is aimed at uniform.

    Returns:
        The images, with the shape and dtype of `images`, and the targets, floating, ``[B, K]``.

    Raises:
        ValueError: if the shapes do not fit, or `alpha` is a number that is not positive.

    Example:
        >>> images = jnp.stack([jnp.zeros((4, 4, 1), jnp.uint8), jnp.ones((4, 4, 1), jnp.uint8)])
        >>> paste = jax.jit(cutmix, static_argnames="alpha")
        >>> images, targets = paste(jax.random.key(0), images, jnp.eye(2), alpha=1.0)
        >>> bool((images.mean((1, 2, 3)) == targets[:, 1]).all())
        True

    References:
        Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features" (ICCV 2019), Section 3.1, Eqs. 1 and 2.
    """
    _check(images, targets, alpha)
    if images.ndim != 4:
        raise ValueError(f"images must have the shape [B, H, W, C], got {images.shape}.")
    mix, *sides = jax.random.split(key, 3)
    weight, partner = _weight_and_partner(mix, len(images), alpha)
    rows, columns = (
        _inside(side, length, jnp.sqrt(1 - weight))
        for side, length in zip(sides, images.shape[1:3], strict=True)
    )
    box = rows[:, None] & columns[None, :]
    pasted = jnp.where(box[None, :, :, None], images[partner], images)
    return pasted, _mixed(1 - box.mean(), targets, partner)


def _inside(key: jax.Array, length: int, part: jax.Array) -> jax.Array:
    """Which places of a side the box covers, ``[length]``."""
    covered = jnp.floor(length * part).astype(jnp.int32)
    start = jax.random.randint(key, (), 0, length) - covered // 2
    places = jnp.arange(length) - start
    return (places >= 0) & (places < covered)


def _weight_and_partner(key: jax.Array, size: int, alpha: float) -> tuple[jax.Array, jax.Array]:
    weight, partner = jax.random.split(key)
    return jax.random.beta(weight, alpha, alpha), jax.random.permutation(partner, size)


def _mixed(weight: jax.Array, values: jax.Array, partner: jax.Array) -> jax.Array:
    weight = weight.astype(values.dtype)
    return weight * values + (1 - weight) * values[partner]


def _check(images: jax.Array, targets: jax.Array, alpha: float) -> None:
    if targets.ndim != 2 or len(targets) != len(images):
        raise ValueError(
            f"targets must be distributions of shape [B, K] for images of shape {images.shape}, "
            f"got {targets.shape}: use jax.nn.one_hot for labels."
        )
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        raise ValueError(f"targets must be floating, got {targets.dtype}.")
    if not isinstance(alpha, jax.Array):
        check_number("alpha", alpha, above=0)
