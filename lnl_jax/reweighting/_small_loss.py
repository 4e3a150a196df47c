"""Which examples to believe: those of small loss, over the batch or within each class."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array, read_classes
from lnl_jax._host_arguments import check_integer
from lnl_jax.reweighting._batch import Batch, read_batch, read_scalar, weigh


def small_loss_weights(
    losses: Array, *, forget_rate: ArrayLike, where: Array | None = None
) -> Array:
    r"""Weights of 1 for the examples of small loss and 0 for the rest.

    The :math:`\lfloor (1 - R)\, n \rfloor` smallest of the n included losses are kept; the earlier
    of equals. Nothing is kept where that is 0: all weights are 0 then, and so is the step's mean.

    In a train step: ``losses * small_loss_weights(losses, forget_rate=rate)`` has the same sum as
    the kept losses; the step divides by the whole batch, so that the rate of learning falls with
    what is left out. For their mean, divide by ``1 - forget_rate``.

    Args:
        losses: one per example, ``[B]``, of the global batch.
        forget_rate: :math:`0 \le R < 1`, a scalar; co-teaching lets it grow from 0 to the noise
            rate over the first epochs.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The weights, ``[B]``, in the dtype of `losses`; 0 where an example is masked. NaN where an
        included loss is not finite. No gradient flows to any argument.

    Raises:
        ValueError: for a shape or dtype that does not fit, or a rate out of range.

    Example:
        >>> small_loss_weights(jnp.array([0.1, 3.0, 0.2, 2.0]), forget_rate=0.5).tolist()
        [1.0, 0.0, 1.0, 0.0]

    References:
        Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
        Labels" (NeurIPS 2018), Algorithm 1.
    """
    batch = read_batch(losses, where)
    rate = read_scalar("forget_rate", forget_rate, batch, at_least=0, below=1)
    count = batch.given.sum().astype(batch.losses.dtype)
    # (1 - 0.3) * 10 must not round to less than 7.
    kept = jnp.floor((1 - rate) * count + 1e-3)
    chosen = _ranks(batch, jnp.zeros_like(batch.losses, jnp.int32)).astype(kept.dtype) < kept
    return weigh(batch, chosen.astype(batch.losses.dtype), rate).public


def small_loss_weights_by_class(
    losses: Array,
    classes: Array,
    *,
    num_classes: int,
    forget_rate: ArrayLike,
    where: Array | None = None,
) -> Array:
    r"""Weights of 1 for as many examples of small loss of each class, and 0 for the rest.

    Of each class the :math:`\lceil (1 - R)\, n / K \rceil` smallest losses are kept, or all where
    it has fewer; n examples are included. Selection over the batch would leave out the classes that
    are learned late.

    Args:
        losses: one per example, ``[B]``, of the global batch or the data set.
        classes: the given labels, integers, ``[B]``.
        num_classes: K.
        forget_rate: :math:`0 \le R < 1`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The weights, ``[B]``, in the dtype of `losses`; 0 where an example is masked or its label is
        no class. NaN where an included loss is not finite. No gradient flows to any argument.

    Raises:
        ValueError: for a shape or dtype that does not fit, or a rate out of range.

    Example:
        >>> losses, labels = jnp.array([0.1, 3.0, 0.2, 2.0]), jnp.array([0, 1, 0, 1])
        >>> chosen = small_loss_weights_by_class(losses, labels, num_classes=2, forget_rate=0.5)
        >>> chosen.tolist()
        [1.0, 0.0, 0.0, 1.0]

    References:
        Xiao et al., "ProMix: Combating Label Noise via Maximizing Clean Sample Utility"
        (IJCAI 2023), the class-wise small-loss selection.
    """
    batch = read_batch(losses, where)
    check_integer("num_classes", num_classes)
    classes = read_classes("classes", classes, batch.losses.shape)
    rate = read_scalar("forget_rate", forget_rate, batch, at_least=0, below=1)
    count = batch.given.sum().astype(batch.losses.dtype)
    quota = jnp.ceil((1 - rate) * count / num_classes - 1e-3)
    is_class = (classes >= 0) & (classes < num_classes)
    chosen = (_ranks(batch, classes.astype(jnp.int32)).astype(quota.dtype) < quota) & is_class
    return weigh(batch, chosen.astype(batch.losses.dtype), rate).public


def co_teaching_weights(
    losses: Array, *, forget_rate: ArrayLike, where: Array | None = None
) -> Array:
    r"""The weights of two networks' losses, each chosen by the other network.

    Each network learns from the examples that are of small loss for the other one, whose mistakes
    are not its own.

    Args:
        losses: of both networks on the same batch, ``[2, B]``.
        forget_rate: :math:`0 \le R < 1`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The weights, ``[2, B]``: :func:`small_loss_weights` of the other network's losses.

    Raises:
        ValueError: if `losses` are not those of two networks, or as :func:`small_loss_weights`.

    Example:
        >>> losses = jnp.array([[0.1, 3.0], [4.0, 0.2]])
        >>> co_teaching_weights(losses, forget_rate=0.5).tolist()
        [[0.0, 1.0], [1.0, 0.0]]

    References:
        Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
        Labels" (NeurIPS 2018), Algorithm 1.
    """
    losses = as_array("losses", losses)
    if losses.ndim != 2 or len(losses) != 2:
        raise ValueError(
            f"losses must be those of two networks, shape [2, B], got {losses.shape}; stack them."
        )
    first, second = losses
    return jnp.stack(
        [
            small_loss_weights(second, forget_rate=forget_rate, where=where),
            small_loss_weights(first, forget_rate=forget_rate, where=where),
        ]
    )


def _ranks(batch: Batch, groups: Array) -> Array:
    """How many included examples of its group come before each; for others more than there are."""
    size = len(batch.losses)
    held = jax.lax.stop_gradient(batch.losses)
    # Masked examples are a group of their own, behind all others.
    groups = jnp.where(batch.given, groups, jnp.iinfo(jnp.int32).max)
    # Stable: of equals the earlier one comes first.
    by_loss = jnp.argsort(held)
    order = by_loss[jnp.argsort(groups[by_loss])]
    sorted_groups = groups[order]
    starts = jnp.searchsorted(sorted_groups, sorted_groups, side="left")
    ranks = jnp.zeros(size, jnp.int32).at[order].set((jnp.arange(size) - starts).astype(jnp.int32))
    return jnp.where(batch.given, ranks, size)
