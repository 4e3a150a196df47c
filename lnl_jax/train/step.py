"""The training step: the one place where losses are reduced and devices talk to each other."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax._arguments import read_example_mask
from lnl_jax.train import tables
from lnl_jax.train.not_finite import are_skipped, first_not_finite, kept_where

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

    Raises:
        ValueError: if a parameter is not floating, `key` is no typed key, or `tables` holds
            something else than a `Table` with the same number of rows in all its arrays.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} must be floating to be differentiated, got "
                f"{jnp.result_type(leaf)}; cast it, or carry it in extra."
            )
    if not jnp.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        raise ValueError(
            f"key must be a typed key, jax.random.key(seed), got {type(key).__name__}."
        )
    _check_tables(tables)
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
        the means over the real examples, ``loss``, ``gradient_norm`` and ``count``, as scalars;
        ``not_finite``, which of loss, gradients and parameters is not, counted from 1, or 0; with
        tables also ``outside_tables``, how many real examples have an index that no row has. Made
        within `skip_not_finite`, it leaves out batches on which one is not.

    Raises:
        ValueError: at tracing, if `loss_fn` returns something else, if the losses or a metric are
            not ``[B]``, the mask is not boolean, or a batch for tables has no integer ``index``.

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
    skips = are_skipped()

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        mask = _mask(batch)
        _check_index(state, batch, mask)
        rows = tables.gather(state.tables, batch["index"]) if _has_tables(state) else state.tables
        count = _total(mask.sum().astype(jnp.float32), axis_name)

        def share(params: PyTree) -> tuple[Array, tuple]:
            """This device's part of the mean."""
            returned = loss_fn(params, state.extra, rows, batch, key)
            losses, carried = _taken_apart(returned, rows if _has_tables(state) else None)
            return _share("losses", losses, mask, count), carried

        differentiate = jax.value_and_grad(share, has_aux=True)
        (loss, (extra, rows, metrics)), grads = differentiate(_local(state.params, axis_name))
        means = {name: _share(name, values, mask, count) for name, values in metrics.items()}
        loss, means, grads = _total((loss, means, grads), axis_name)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params, extra = optax.apply_updates(state.params, updates), _averaged(extra, axis_name)
        reports = {"loss": loss, "gradient_norm": optax.tree.norm(grads), "count": count}
        wrong = first_not_finite(loss, reports["gradient_norm"], params)
        if skips:
            good = wrong == 0
            # The rows of such a batch are not written, as those of padding are not.
            changed, mask = (params, extra, opt_state), mask & good
            before = (state.params, state.extra, state.opt_state)
            params, extra, opt_state = kept_where(good, changed, before)
            reports["skipped"] = jnp.where(good, 0, count)
            zeros = jax.tree.map(jnp.zeros_like, (means, reports))
            means, reports = kept_where(
                good, (means, reports), (zeros[0], zeros[1] | {"skipped": reports["skipped"]})
            )
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            extra=extra,
            tables=_written(state, batch, rows, mask, axis_name),
            opt_state=opt_state,
            key=state.key,
        )
        reports["not_finite"] = wrong
        if _has_tables(state):
            outside = tables.outside(state.tables, batch["index"]) & mask
            reports["outside_tables"] = _total(outside.sum().astype(jnp.float32), axis_name)
        taken = sorted(reports.keys() & means.keys())
        if taken:
            raise ValueError(f"loss_fn must not call a metric {taken[0]!r}: the step makes it.")
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
    sizes = [np.shape(leaf)[0] for leaf in jax.tree.leaves(dict(batch)) if np.ndim(leaf)]
    if "mask" in batch:
        # Its own length is the number of examples: that of the losses is compared with it.
        return read_example_mask('batch["mask"]', batch["mask"], np.shape(batch["mask"])[:1])
    if not sizes:
        raise ValueError("batch must hold arrays with an entry per example, got none.")
    return jnp.ones(sizes[0], bool)


def _check_tables(tree: PyTree) -> None:
    for table in jax.tree.leaves(tree, is_leaf=tables.is_table):
        if not tables.is_table(table):
            raise ValueError(
                f"tables must be a pytree of lnl_jax.train.Table, got a {type(table).__name__}; "
                "wrap it: Table(values)."
            )
        lengths = sorted({np.shape(leaf)[:1] for leaf in jax.tree.leaves(table.values)})
        if len(lengths) != 1 or lengths[0] == ():
            raise ValueError(
                "tables must hold arrays [N, ...] with one N per Table, got the leading sizes "
                f"{lengths}."
            )


def _check_index(state: TrainState, batch: Batch, mask: Array) -> None:
    if not _has_tables(state):
        return
    if "index" not in batch:
        raise ValueError(
            'batch must hold "index", the row of each example in the tables; got '
            f"{', '.join(map(repr, sorted(batch)))}."
        )
    index = batch["index"]
    if np.shape(index) != mask.shape or not jnp.issubdtype(index.dtype, jnp.integer):
        raise ValueError(
            f'batch["index"] must be integers of shape {mask.shape}, one row per example; got '
            f"{index.dtype} of shape {np.shape(index)}."
        )


def _taken_apart(returned: Any, rows: PyTree | None) -> tuple[Array, tuple[PyTree, PyTree, dict]]:
    try:
        losses, (extra, new_rows, metrics) = returned
    except (TypeError, ValueError):
        raise ValueError(
            "loss_fn must return (losses, (extra, rows, metrics)), got "
            f"{jax.tree.map(jnp.shape, returned)}."
        ) from None
    if not isinstance(metrics, Mapping):
        raise ValueError(
            f"loss_fn must return its metrics as a dict, got a {type(metrics).__name__}."
        )
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (rows, new_rows)]
    if rows is not None and shapes[0] != shapes[1]:
        raise ValueError(
            f"loss_fn must return the rows in the form it was given, {shapes[0]}; got {shapes[1]}."
        )
    return losses, (extra, new_rows, dict(metrics))


def _share(name: str, values: Array, mask: Array, count: Array) -> Array:
    """This device's part of a mean over `count` examples, in float32 at least."""
    values = jnp.asarray(values)
    if values.shape != mask.shape:
        raise ValueError(
            f"loss_fn must return {name} with one value per example, shape {mask.shape}; got "
            f"{values.shape}. Leave the reduction to the step."
        )
    dtype = jnp.promote_types(values.dtype, jnp.float32)
    scale = 1 / jnp.maximum(count.astype(dtype), 1)
    return scale * jnp.where(mask, values, 0).astype(dtype).sum()


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
