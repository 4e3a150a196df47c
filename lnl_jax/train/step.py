"""The training step: the one place where losses are reduced and devices talk to each other."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from lnl_jax.train import tables

PyTree = Any
Batch = Mapping[str, Array]
# (params, extra, rows, batch, key) -> (losses [B], (extra, rows, metrics))
LossFn = Callable[[PyTree, PyTree, PyTree, Batch, Array], tuple[Array, tuple[PyTree, PyTree, dict]]]
# (params, extra, batch) -> pytree of metrics.Average
MetricFn = Callable[[PyTree, PyTree, Batch], PyTree]


class TrainState(NamedTuple):
    """All that a step changes, as one pytree.

    Attributes:
        step: how many steps were taken, int32.
        params: what is differentiated.
        extra: what is carried along and is not, such as batch statistics.
        tables: a pytree of `Table`, the state per training example.
        opt_state: the optimiser's.
        key: a typed PRNG key; the step folds its number in and leaves it as it is.
    """

    step: Array
    params: PyTree
    extra: PyTree
    tables: PyTree
    opt_state: PyTree
    key: Array


def init_state(
    params: PyTree,
    tx: optax.GradientTransformation,
    *,
    key: Array,
    extra: PyTree = (),
    tables: PyTree = (),
) -> TrainState:
    """The state before the first step.

    Args:
        params: the initial parameters.
        tx: the optimiser that the step will use.
        key: a typed PRNG key, ``jax.random.key(seed)``.
        extra: the initial batch statistics or the like.
        tables: a pytree of `Table`.

    Returns:
        The `TrainState`.
    """
    return TrainState(jnp.zeros((), jnp.int32), params, extra, tables, tx.init(params), key)


def make_train_step(
    loss_fn: LossFn, tx: optax.GradientTransformation, *, axis_name: str | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    r"""Makes a step that descends the mean loss of the batch's real examples.

    .. math::
        \nabla \frac{\sum_i m_i \ell_i}{\sum_i m_i}

    with the sums over the *global* batch, so that padding changes nothing and no device's share is
    weighted by how full it is.

    The same function runs under `jax.jit`, on one device or on arrays sharded over a mesh; in
    `jax.lax.scan`; under `jax.vmap`, over seeds and hyperparameters; and, given `axis_name`, under
    `jax.pmap` and `jax.shard_map`, where each device sees its part of the batch, and state and
    metrics are replicated.

    Args:
        loss_fn: ``(params, extra, rows, batch, key) -> (losses, (extra, rows, metrics))``: one loss
            per example, ``[B]``; the new `extra`; the new rows of the tables (as they came in,
            where there are none); metrics, a dict of ``[B]`` arrays. `rows` are those of
            ``batch["index"]``.
        tx: an optax optimiser.
        axis_name: of the devices, inside `pmap` and `shard_map` only.

    Returns:
        ``step(state, batch) -> (state, metrics)``. ``batch["mask"]``, boolean ``[B]``, is false for
        padding (absent: all are real); ``batch["index"]`` is needed with tables. The metrics are
        the means over the real examples, ``loss``, ``gradient_norm`` and ``count``, as scalars.

    Raises:
        ValueError: at tracing, if the losses or a metric are not ``[B]``.

    Example:
        >>> def loss_fn(params, extra, rows, batch, key):
        ...     return (batch["x"] @ params - batch["y"]) ** 2, (extra, rows, {})
        >>> tx = optax.sgd(0.1)
        >>> step = jax.jit(make_train_step(loss_fn, tx))
        >>> state = init_state(jnp.zeros(2), tx, key=jax.random.key(0))
        >>> state, metrics = step(state, {"x": jnp.eye(2), "y": jnp.ones(2)})
        >>> float(metrics["loss"]), state.params.tolist()
        (1.0, [0.1, 0.1])
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        rows = tables.gather(state.tables, batch["index"]) if _has_tables(state) else state.tables
        mask = _mask(batch)
        count = _total(mask.sum().astype(jnp.float32), axis_name)
        scale = 1 / jnp.maximum(count, 1)

        def share(params: PyTree) -> tuple[Array, tuple]:
            """This device's part of the mean."""
            losses, carried = loss_fn(params, state.extra, rows, batch, key)
            return scale * _masked_sum("losses", losses, mask), carried

        differentiate = jax.value_and_grad(share, has_aux=True)
        (loss, (extra, rows, metrics)), grads = differentiate(_local(state.params, axis_name))
        means = {name: scale * _masked_sum(name, values, mask) for name, values in metrics.items()}
        loss, means, grads = _total((loss, means, grads), axis_name)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            extra=_averaged(extra, axis_name),
            tables=_written(state, batch, rows, mask, axis_name),
            opt_state=opt_state,
            key=state.key,
        )
        reports = {"loss": loss, "gradient_norm": optax.tree.norm(grads), "count": count}
        return new_state, means | reports

    return step


def make_eval_step(
    metric_fn: MetricFn, *, axis_name: str | None = None
) -> Callable[[TrainState, Batch], PyTree]:
    """Makes a step that measures and changes nothing.

    Args:
        metric_fn: ``(params, extra, batch) -> pytree`` of `lnl_jax.metrics.Average`, each over the
            examples where ``batch["mask"]`` is true.
        axis_name: of the devices, inside `pmap` and `shard_map` only.

    Returns:
        ``step(state, batch) -> pytree`` of `Average` over the global batch. They add up over
        batches, `lnl_jax.metrics.merge`, and are divided once.
    """

    def step(state: TrainState, batch: Batch) -> PyTree:
        return _total(metric_fn(state.params, state.extra, batch), axis_name)

    return step


def _has_tables(state: TrainState) -> bool:
    return bool(jax.tree.leaves(state.tables))


def _mask(batch: Batch) -> Array:
    if "mask" in batch:
        return batch["mask"]
    return jnp.ones(len(jax.tree.leaves(dict(batch))[0]), bool)


def _masked_sum(name: str, values: Array, mask: Array) -> Array:
    if values.shape != mask.shape:
        raise ValueError(
            f"loss_fn must return {name} with one value per example, shape {mask.shape}; got "
            f"{values.shape}. Leave the reduction to the step."
        )
    return jnp.where(mask, values, 0).astype(jnp.float32).sum()


def _total(tree: PyTree, axis_name: str | None) -> PyTree:
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def _local(params: PyTree, axis_name: str | None) -> PyTree:
    """The parameters as this device's own, so that their gradient is this device's share.

    Where `shard_map` tracks what is replicated, the gradient of replicated parameters comes summed
    over the devices already, and the sum below would count it once more for each of them.
    """
    if axis_name is None:
        return params
    tracked = jax.typeof(jax.lax.axis_index(axis_name)).manual_axis_type.varying
    if axis_name not in tracked:
        return params
    return jax.lax.pcast(params, axis_name, to="varying")


def _averaged(extra: PyTree, axis_name: str | None) -> PyTree:
    if axis_name is None:
        return extra
    return jax.tree.map(
        lambda leaf: (
            jax.lax.pmean(leaf, axis_name) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf
        ),
        extra,
    )


def _written(
    state: TrainState, batch: Batch, rows: PyTree, mask: Array, axis_name: str | None
) -> PyTree:
    """The tables after the whole batch: every device writes the rows of all."""
    if not _has_tables(state):
        return state.tables
    written = (batch["index"], jax.lax.stop_gradient(rows), mask)
    if axis_name is not None:
        written = jax.lax.all_gather(written, axis_name, tiled=True, to="invarying")
    return tables.scatter(state.tables, *written)
