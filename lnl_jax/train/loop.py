"""Epochs: how the steps of one are run, and a generator over many."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax._host_arguments import check_integer
from lnl_jax.metrics import Average, merge
from lnl_jax.train.loop_checks import (
    Place,
    check_epoch,
    check_finite,
    check_parts,
    check_steps,
)
from lnl_jax.train.not_finite import NotFiniteError
from lnl_jax.train.pieces import SoFar, in_float64, in_pieces, no_sums

PyTree = Any
Step = Callable[[PyTree, Mapping], tuple[PyTree, dict]]
RunEpoch = Callable[[PyTree, Any], tuple[PyTree, dict]]


def gather_batches(step: Step, dataset: Mapping) -> Step:
    """Turns a step on batches into one on positions of a data set that is on the device.

    Gathering inside the compiled step is what makes small models fast: nothing crosses from the
    host but the positions.

    Args:
        step: ``step(state, batch) -> (state, metrics)``.
        dataset: arrays with leading dimension N, ``index`` among them.

    Returns:
        ``step(state, rows) -> (state, metrics)`` for ``rows`` with ``position`` and ``mask``,
        ``[B]``, one step of `lnl_jax.data.epoch_plan`. It is a `jax.tree_util.Partial`: a compiled
        function takes the data set as an argument, not as a constant.

    Raises:
        ValueError: if the arrays have not all the same leading dimension.
    """
    on_device = {name: jnp.asarray(values) for name, values in dataset.items()}
    sizes = {name: np.shape(values)[:1] for name, values in on_device.items()}
    if not sizes or len(set(sizes.values())) != 1 or () in sizes.values():
        raise ValueError(f"dataset must hold arrays [N, ...] with one N, got {sizes or 'none'}.")
    return jax.tree_util.Partial(_step_at, _as_argument(step), on_device)


def _step_at(step: Step, dataset: dict, state: PyTree, rows: Mapping) -> tuple[PyTree, dict]:
    # A plain gather would take the nearest example for one that is not there; here its floats are
    # NaN and its labels no class.
    batch = {
        name: values.at[rows["position"]].get(mode="fill", wrap_negative_indices=False)
        for name, values in dataset.items()
    }
    return step(state, batch | {"mask": rows["mask"]})


def _as_argument(step: Step) -> jax.tree_util.Partial:
    """A function that can be handed to a compiled one, with the arrays that it holds."""
    # Wrapped twice, a Partial would hide its arrays, and they would become constants.
    return step if isinstance(step, jax.tree_util.Partial) else jax.tree_util.Partial(step)


def scan_steps(step: Step) -> RunEpoch:
    """Runs an epoch as one compiled `jax.lax.scan`: no Python between the steps.

    Args:
        step: ``step(state, batch) -> (state, metrics)``.

    Returns:
        ``run(state, batches) -> (state, metrics)`` for arrays with a leading axis of steps; the
        metrics have it too. The state is donated.
    """
    return jax.tree_util.Partial(_scan_all, _as_argument(step))


def _scan_all(step: Step, state: PyTree, batches: Mapping) -> tuple[PyTree, dict]:
    # Sent by name: what a compiled function takes from the host itself, a transfer guard refuses.
    return _scan(step, state, jax.device_put(dict(batches)))


@functools.partial(jax.jit, donate_argnums=1)
def _scan(step: Step, state: PyTree, batches: Mapping) -> tuple[PyTree, dict]:
    return jax.lax.scan(step, state, batches)


def dispatch_steps(step: Step) -> RunEpoch:
    """Runs an epoch step by step from Python, without waiting for any of them.

    Args:
        step: ``step(state, batch) -> (state, metrics)``.

    Returns:
        ``run(state, batches) -> (state, metrics)`` as `scan_steps` makes it. Here `batches` may
        also be any iterable of batches, such as a data loader. The state is donated.
    """

    def run(state: PyTree, batches: Mapping | Iterable[Mapping]) -> tuple[PyTree, dict]:
        (state,), history = _dispatch_all(step, [state], batches)
        return state, jax.tree.map(lambda values: values[:, 0], history)

    return run


def dispatch_in_turn(step: Step) -> RunEpoch:
    """Runs an epoch of several trainings from Python: each takes its step on a batch in turn.

    They share the batches, whatever these cost, and the compiled step of a single training. For
    networks with convolutions, whose kernels `jax.vmap` turns into grouped ones: slow on a CPU.

    Args:
        step: ``step(state, batch) -> (state, metrics)`` of one training.

    Returns:
        ``run(states, batches) -> (states, metrics)`` for a list of states, which are donated, and
        batches as `dispatch_steps` takes them; the metrics are ``[steps, trainings]``.

    Example:
        >>> run = dispatch_in_turn(lambda state, batch: (state + batch["x"], {"sum": state}))
        >>> states, metrics = run([jnp.float32(0), jnp.float32(5)], {"x": jnp.array([1.0, 2.0])})
        >>> [float(state) for state in states], metrics["sum"].tolist()
        ([3.0, 8.0], [[0.0, 5.0], [1.0, 6.0]])
    """

    def run(states: list[PyTree], batches: Mapping | Iterable[Mapping]) -> tuple[list, dict]:
        return _dispatch_all(step, states, batches)

    return run


def _dispatch_all(
    step: Step, states: list[PyTree], batches: Mapping | Iterable[Mapping]
) -> tuple[list[PyTree], dict]:
    """Metrics ``[steps, trainings]``; nothing waits for the device before the last batch."""
    argument, history = _as_argument(step), []
    for batch in _unstacked(batches):
        # On its way once, not once for each training; one that is split over processes is there.
        batch = {k: v if isinstance(v, jax.Array) else jax.device_put(v) for k, v in batch.items()}
        states, metrics = zip(*(_dispatch(argument, state, batch) for state in states), strict=True)
        history.append(metrics)
    if not history:
        raise ValueError("batches holds no batch to train on; one that was used up is empty.")
    stacked = jax.tree.map(lambda *values: np.stack(values), *jax.device_get(history))
    return list(states), jax.tree.map(lambda *values: np.stack(values, 1), *stacked)


@functools.partial(jax.jit, donate_argnums=1)
def _dispatch(step: Step, state: PyTree, batch: Mapping) -> tuple[PyTree, dict]:
    return step(state, batch)


def _unstacked(batches: Mapping | Iterable[Mapping]) -> Iterator[Mapping]:
    if not isinstance(batches, Mapping):
        yield from batches
        return
    for index in range(len(jax.tree.leaves(dict(batches))[0])):
        yield {name: _row(values, index) for name, values in batches.items()}


def _row(values: Any, index: int) -> Any:
    if not isinstance(values, jax.Array):
        return values[index]
    return _row_on_device(values, jax.device_put(np.int32(index)))


_row_on_device = jax.jit(lambda values, index: values[index])


def run_steps(step: Step) -> RunEpoch:
    """`scan_steps`, or `dispatch_steps` where that is faster: convolutions on CPU.

    XLA on CPU runs the gradient of a convolution some 30 times slower inside a loop than outside
    (jax-ml/jax#12868). The step is traced once to see whether it has one.

    Args:
        step: ``step(state, batch) -> (state, metrics)``.

    Returns:
        ``run(state, batches) -> (state, metrics)`` for arrays with a leading axis of steps.
    """
    scanned, dispatched = scan_steps(step), dispatch_steps(step)
    chosen: list[RunEpoch] = []

    def run(state: PyTree, batches: Mapping) -> tuple[PyTree, dict]:
        if not chosen:
            first = next(_unstacked(batches))
            chosen.append(dispatched if slow_in_loops(step, state, first) else scanned)
        return chosen[0](state, batches)

    return run


def slow_in_loops(step: Step, state: PyTree, batch: Mapping) -> bool:
    """Whether `run_steps` dispatches such a step."""
    return jax.default_backend() == "cpu" and has_convolution(step, state, batch)


def steps_program(step: Step, state: PyTree, batches: Mapping) -> tuple[Callable, tuple]:
    """The compiled function that `run_steps` calls, and what it is called with."""
    first = next(_unstacked(batches))
    if slow_in_loops(step, state, first):
        return _dispatch, (_as_argument(step), state, jax.device_put(dict(first)))
    return _scan, (_as_argument(step), state, jax.device_put(dict(batches)))


def has_convolution(function: Callable, *args: Any) -> bool:
    """Whether a function, traced with these arguments, contains a convolution.

    Args:
        function: any JAX function.
        *args: its arguments; only shapes and dtypes matter.

    Returns:
        True if it does, at any depth of nested functions and control flow.
    """
    return _any_convolution(jax.make_jaxpr(function)(*args).jaxpr)


def _any_convolution(jaxpr: Any) -> bool:
    return any(
        equation.primitive.name == "conv_general_dilated"
        or any(map(_any_convolution, _inner_jaxprs(list(equation.params.values()))))
        for equation in jaxpr.eqns
    )


def _inner_jaxprs(value: Any) -> Iterator[Any]:
    """The programs among the parameters of an operation, such as the body of a loop."""
    if hasattr(value, "eqns"):
        yield value
    elif hasattr(value, "jaxpr"):
        yield value.jaxpr
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _inner_jaxprs(item)


def fit(
    run_epoch: RunEpoch,
    state: PyTree,
    batches: Callable[[int], Any],
    *,
    epochs: int,
    steps_per_epoch: int,
    steps_at_once: int | None = None,
    so_far: SoFar | None = None,
) -> Iterator[tuple[dict[str, Any] | SoFar, PyTree]]:
    """Trains, and yields after every epoch.

    It goes on from ``state.step``, so that a restored state continues where it was saved.

    Args:
        run_epoch: ``run_epoch(state, batches) -> (state, metrics)``, from `run_steps` or the like.
        state: a `TrainState`, or one of a vmapped step, whose runs are at the same step.
        batches: the batches of an epoch, numbered from 0. Make them from the number alone, and an
            interrupted training sees what an uninterrupted one does.
        epochs: how many in all, those before a restore included; at least 1.
        steps_per_epoch: how many steps an epoch has, at least 1.
        steps_at_once: takes an epoch in pieces of about so many steps, as `in_pieces` has it, after
            each of which a training can be gone on with; None takes it whole. `batches` returns
            arrays ``[steps, ...]`` then.
        so_far: of the epoch that the state is in the midst of, which else begins anew.

    Yields:
        A row, ``{"epoch": from 1, "examples": seen so far, "loss": ..., other metrics}``, with the
        means over the epoch's examples (NumPy arrays with one entry per run, for a vmapped step),
        and the state. The state is consumed by the next epoch: save or copy what must outlive it.
        After a piece that does not end its epoch the `SoFar` in place of a row.

    Raises:
        ValueError: if a number is out of range, an epoch has another number of steps, an index is
            no row of the tables, or `so_far` is not of this state.
        NotFiniteError: as soon as an epoch had a loss, gradients or parameters that are not finite;
            names the step, what went first, and the run if there are several. Of steps that leave
            such batches out, where nothing is left of an epoch.
    """
    check_integer("epochs", epochs)
    check_integer("steps_per_epoch", steps_per_epoch)
    # The first epoch consumes a copy: the caller's state stays usable.
    state = jax.tree.map(jnp.copy, state)
    start, within = divmod(int(np.max(jax.device_get(state.step))), steps_per_epoch)
    if so_far is not None and so_far.steps != within:
        raise ValueError(
            f"so_far must be of {within} steps of an epoch, those of the state, got {so_far.steps}."
        )
    examples = None
    for epoch in range(start, epochs):
        before, so_far = so_far or SoFar(0, no_sums("skipped", "steps_skipped")), None
        taken, sums = int(before.steps), in_float64(before.sums)
        for part, rows in in_pieces(batches(epoch), steps_at_once, taken):
            if part.start > taken:
                yield SoFar(part.start, sums), state
            state, metrics = run_epoch(state, rows)
            metrics = jax.device_get(dict(metrics))
            end = steps_per_epoch if part.stop is None else part.stop
            check_steps(metrics, epoch, range(part.start, end), steps_per_epoch)
            found = _sums(metrics, Place(epoch, part.start, epoch * steps_per_epoch + part.start))
            # As arrays, also those of one number, as a checkpoint has them.
            sums = sums | {name: np.asarray(sums.get(name, 0) + found[name]) for name in found}
        check_epoch(end, epoch, steps_per_epoch)
        count, skipped = sums["count"], sums["skipped"]
        if "skipped" in found and not np.all(count):
            raise NotFiniteError(f"every batch of epoch {epoch + 1} was left out as not finite.")
        # Every run and every epoch sees as many examples, also those of an earlier session.
        seen = int((count + skipped).max())
        examples = seen * (start + 1) if examples is None else examples + seen
        row = {"epoch": epoch + 1, "examples": examples}
        if "skipped" in found:
            row["steps_skipped"] = sums["steps_skipped"].astype(int)
        for name, values in metrics.items():
            row[name] = (sums[name] / count).astype(np.result_type(values, np.float32))
        yield row, state


def _sums(metrics: dict, place: Place) -> dict[str, np.ndarray]:
    """Over the steps of a piece, which are finite; leaves in `metrics` those that have a mean."""
    # A finite loss can have an infinite gradient, and ruin the parameters in the last step.
    wrong = metrics.pop("not_finite", None)
    skipped = metrics.pop("skipped", None)
    if wrong is not None and skipped is None:
        check_parts(wrong, metrics, place)
    for name in ("loss", "gradient_norm"):
        if name in metrics:
            check_finite(name, metrics[name], place)
    count = metrics.pop("count")
    found = {"count": count} | {name: values * count for name, values in metrics.items()}
    if skipped is not None:
        found |= {"skipped": skipped, "steps_skipped": wrong > 0}
    return {name: values.sum(0, dtype=np.float64) for name, values in found.items()}


def evaluate(eval_step: Callable, state: PyTree, batches: Iterable[Mapping]) -> PyTree:
    """Adds up the metrics of all batches and divides once.

    Args:
        eval_step: from `make_eval_step`, compiled.
        state: a `TrainState`.
        batches: dicts with ``mask``, such as `lnl_jax.data.batches` yields.

    Returns:
        The pytree of the metrics' values, as NumPy arrays.

    Raises:
        ValueError: if there is no batch, or a metric is no `lnl_jax.metrics.Average`.
    """
    found = (eval_step(state, jax.device_put(dict(batch))) for batch in batches)
    first = next(iter(found), None)
    if first is None:
        raise ValueError("batches holds no batch to evaluate on; one that was used up is empty.")
    for path, node in jax.tree_util.tree_leaves_with_path(first, is_leaf=_is_average):
        if not _is_average(node):
            raise ValueError(
                f"the metric {jax.tree_util.keystr(path) or 'of eval_step'} must be a "
                f"lnl_jax.metrics.Average, a sum and a count, got a {type(node).__name__}."
            )
    totals = functools.reduce(merge, found, first)
    return jax.device_get(_values(totals))


@jax.jit
def _values(totals: PyTree) -> PyTree:
    return jax.tree.map(lambda node: node.value, totals, is_leaf=_is_average)


def _is_average(node: Any) -> bool:
    return isinstance(node, Average)
