"""Group distributionally robust optimisation: weights of groups by exponentiated gradient."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import (
    as_array,
    computation_dtype,
    not_a_number,
    read_classes,
    refuse_explicit_mesh,
)
from lnl_jax.reweighting._batch import Batch, Weighted, read_batch, read_scalar, weigh


def group_dro_weights(
    losses: Array,
    groups: Array,
    rows: Array,
    *,
    step_size: ArrayLike,
    where: Array | None = None,
) -> tuple[Array, Array]:
    r"""One step of group DRO: weights that grow with the mean loss of an example's group.

    With :math:`n_g` examples of group g in the batch and :math:`L_g` their mean loss, 0 for a group
    that is not there,

    .. math::
        q_g \gets \frac{q_g \exp(\eta L_g)}{\sum_h q_h \exp(\eta L_h)}, \qquad
        w_i = \frac{q_{g(i)}}{n_{g(i)}}

    so that :math:`\sum_i w_i \ell_i = \sum_g q_g L_g`, with the new q. Start from equal groups,
    ``rows = jnp.full(G, -jnp.log(G))``, or zeros, and carry the rows in the train state's `extra`.

    In a train step: ``losses * jax.lax.stop_gradient(count * weights)``, with weights over the
    global batch, as :func:`kl_dro_weights` says; gather the groups too.

    Args:
        losses: one per example, ``[B]``.
        groups: the group of each example, integers from 0 to G - 1, ``[B]``.
        rows: :math:`\log q`, up to a constant, ``[G]``.
        step_size: :math:`\eta \ge 0`, a scalar. The official code takes 0.01.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The weights, ``[B]``, in the dtype of `losses`, and the new rows, ``[G]``, in their own; the
        exponentials of these sum to 1. The weights sum to the q of the groups that are there; one
        is NaN where the group is outside ``[0, G)``, which counts for no group, and 0 where the
        example is masked. Everything is NaN where an included loss is not finite. No gradient flows
        to any argument, and none through the rows.

    Raises:
        ValueError: for a shape or dtype that does not fit, a step size out of range, or arrays that
            are split over an Explicit axis of a mesh.

    Example:
        >>> losses, groups = jnp.array([1.0, 3.0, 0.0]), jnp.array([0, 0, 1])
        >>> weights, rows = group_dro_weights(losses, groups, jnp.zeros(2), step_size=0.1)
        >>> weights.tolist(), jnp.exp(rows).tolist()
        ([0.275, 0.275, 0.450], [0.550, 0.450])

    References:
        Sagawa, Koh, Hashimoto and Liang, "Distributionally Robust Neural Networks for Group Shifts:
        On the Importance of Regularization for Worst-Case Generalization" (ICLR 2020), Algorithm 1,
        with the batch's mean losses as in the official code.
    """
    weighted, rows = _step(losses, groups, rows, step_size, where)
    return weighted.public, rows


def group_dro_value(
    losses: Array,
    groups: Array,
    rows: Array,
    *,
    step_size: ArrayLike,
    where: Array | None = None,
) -> tuple[Array, Array]:
    r"""The mean loss under :func:`group_dro_weights`, and the new rows.

    .. math::
        \sum_g q_g L_g

    Args:
        losses: one per example, ``[B]``.
        groups: the group of each example, integers from 0 to G - 1, ``[B]``.
        rows: :math:`\log q`, up to a constant, ``[G]``.
        step_size: :math:`\eta \ge 0`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        A scalar in the dtype of `losses`, and the new rows, ``[G]``. The gradient of the scalar is
        the weights, which are held; none flows to or through the rows. NaN where a weight is; 0
        where all examples are masked.

    Raises:
        ValueError: as :func:`group_dro_weights`.

    Example:
        >>> losses, groups = jnp.array([1.0, 3.0, 0.0]), jnp.array([0, 0, 1])
        >>> value, rows = group_dro_value(losses, groups, jnp.zeros(2), step_size=0.1)
        >>> value.tolist()
        1.100

    References:
        As :func:`group_dro_weights`.
    """
    weighted, rows = _step(losses, groups, rows, step_size, where)
    return weighted.value, rows


def _step(
    losses: Array, groups: Array, rows: Array, step_size: ArrayLike, where: Array | None
) -> tuple[Weighted, Array]:
    refuse_explicit_mesh(losses=losses, groups=groups)
    batch = read_batch(losses, where)
    groups, rows = _read_groups(groups, rows, batch)
    step_size = read_scalar("step_size", step_size, batch, at_least=0, below=math.inf)
    held = jax.lax.stop_gradient((batch, rows, step_size))
    weights, rows = _exponentiated_gradient(*held, groups)
    return weigh(batch, weights, step_size), rows


def _exponentiated_gradient(
    batch: Batch, rows: Array, step_size: Array, groups: Array
) -> tuple[Array, Array]:
    """The weights, ``[B]``, and the new rows, ``[G]``."""
    dtype, total = batch.losses.dtype, jnp.zeros(rows.shape, batch.losses.dtype)
    known = (groups >= 0) & (groups < len(rows))
    groups = jnp.where(known, groups, 0)
    counted = batch.given & known
    sizes = jnp.maximum(total.at[groups].add(counted.astype(dtype)), 1)
    means = total.at[groups].add(jnp.where(counted, batch.losses, 0)) / sizes
    means = jnp.where(batch.broken, not_a_number(dtype), step_size * means)
    wide = rows.astype(computation_dtype(rows.dtype))
    new = jax.nn.log_softmax(wide + means.astype(wide.dtype))
    weights = jnp.exp(new).astype(dtype)[groups] / sizes[groups]
    return jnp.where(known, weights, not_a_number(dtype)), new.astype(rows.dtype)


def _read_groups(groups: Array, rows: Array, batch: Batch) -> tuple[Array, Array]:
    """Groups that can be compared with G, and rows.

    Raises:
        ValueError: if they are no integers ``[B]`` and floating ``[G]``.
    """
    groups, rows = read_classes("groups", groups, batch.losses.shape), as_array("rows", rows)
    if not jnp.issubdtype(rows.dtype, jnp.floating) or rows.ndim != 1 or rows.size == 0:
        raise ValueError(
            "rows must be floating with one value per group, shape [G]; got "
            f"{rows.dtype} of shape {rows.shape}."
        )
    return groups, rows
