"""Many trainings in lockstep: all data sets (seeds, folds, noises) with all settings of a method.

Each method is one compiled program. Small networks train all at once, with two leading axes, data
sets and settings; networks that fill the machine alone take turns within an epoch. What every
method shares (splits, noise, initialisation, order) makes their differences paired.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.outputs import Checkpoint, Resume, Row
from lnl_jax import data, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PyTree = Any
Setting = dict[str, Any]


class Method(NamedTuple):
    """What is trained, and the settings among which validation chooses.

    Attributes:
        name: in rows and tables.
        loss_fn: ``(setting, known, params, extra, rows, batch, key)``, a loss function of
            `train.make_train_step` for one setting and for what is known of the data set.
        settings: dicts of numbers with the same keys, `learning_rate` among them.
        extra: the state that `loss_fn` carries along, at the start.
    """

    name: str
    loss_fn: Callable
    settings: Sequence[Setting]
    extra: PyTree = ()


class Study(NamedTuple):
    """All runs of one method: the initial states ``[data sets, settings]`` and what acts on them.

    Attributes:
        state: a `TrainState`.
        run_epoch: ``(state, rows) -> (state, metrics)``.
        measure: ``state -> dict`` of arrays ``[data sets, settings]``.
    """

    state: PyTree
    run_epoch: Callable
    measure: Callable


def initial_params(model: Any, x: np.ndarray, seeds: Sequence[int]) -> PyTree:
    """The parameters that all methods and settings start from, ``[data sets, ...]``.

    Args:
        model: a flax module.
        x: inputs, ``[data sets, N, ...]``.
        seeds: one for each data set.
    """
    example = jnp.asarray(x[0, :1])
    return jax.jit(jax.vmap(lambda seed: model.init(jax.random.key(seed), example)))(
        jnp.asarray(seeds)
    )


def make_study(
    method: Method,
    params: PyTree,
    parts: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    schedule: Callable[[jax.Array], jax.Array],
    weight_decay: float,
    measure: Callable[[PyTree, PyTree, Mapping], dict],
) -> Study:
    """Puts the runs of a method side by side.

    Args:
        method: what is trained, by SGD with momentum 0.9.
        params: from `initial_params`.
        parts: arrays with a leading axis of data sets; `train` is trained on, `known`, if there, is
            handed to the loss function.
        seeds: of the steps, one for each data set.
        schedule: the factor on the learning rate at each step.
        weight_decay: added to the gradient, for all parameters.
        measure: ``(params, extra, parts) -> dict`` of scalars, for one run and one data set.

    Returns:
        The `Study`.
    """
    settings = _stacked(method.settings)
    parts = jax.tree.map(jnp.asarray, dict(parts))
    optimizer = functools.partial(_optimizer, schedule, weight_decay)
    descend = functools.partial(_descend, method, optimizer)

    def step(parts, states, rows):
        def on_one_data_set(states, part, known, rows):
            batch = data.take(part, rows)
            return jax.vmap(descend, (0, None, 0, None))(settings, known, states, batch)

        return jax.vmap(on_one_data_set)(states, parts["train"], parts.get("known", {}), rows)

    @jax.jit
    def measure_all(parts, params, extra):
        return jax.vmap(jax.vmap(measure, (0, 0, None)))(params, extra, parts)

    return Study(
        _start(method, optimizer, seeds, params, settings),
        train.run_steps(jax.tree_util.Partial(step, parts)),
        lambda state: measure_all(parts, state.params, state.extra),
    )


def make_study_in_turn(
    method: Method,
    params: PyTree,
    parts: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    schedule: Callable[[jax.Array], jax.Array],
    weight_decay: float,
    measure: Callable[[PyTree, PyTree, Mapping], dict],
    shared: Mapping[str, Mapping] | None = None,
    streamed: bool = False,
) -> Study:
    """As `make_study`, for networks that fill the machine alone: one run after the other.

    They still share one program. A convolution with an axis of runs is a grouped one, which on CPU
    takes twice the time of its parts.

    Args:
        method: what is trained.
        params: from `initial_params`.
        parts: arrays with a leading axis of data sets.
        seeds: of the steps, one for each data set.
        schedule: the factor on the learning rate at each step.
        weight_decay: added to the gradient, for all parameters.
        measure: ``(params, extra, parts) -> dict`` of scalars.
        shared: more for the parts, without an axis: what all data sets have in common, such as the
            images.
        streamed: whether what is shared is larger than the device: ``known["image"]`` stays on the
            host, threads make the batches with their ``image``, and `measure`, which gets the
            images as they are, is not compiled whole.

    Returns:
        The `Study`.
    """
    settings = _stacked(method.settings)
    optimizer = functools.partial(_optimizer, schedule, weight_decay)
    own, shared = jax.tree.map(jnp.asarray, dict(parts)), dict(shared or {})
    if not streamed:
        shared = jax.tree.map(jnp.asarray, shared)
        measure = jax.jit(measure)
    descend = functools.partial(_descend, method, optimizer)
    runs = list(itertools.product(range(len(seeds)), range(len(method.settings))))
    of_data_set = [part_of(own, shared, index) for index in range(len(seeds))]

    # One function for all runs, which get their arrays as arguments: it is compiled once.
    def step(setting, parts, state, rows):
        batch = rows if streamed else data.take(parts["train"], rows)
        return descend(setting, parts["known"], state, batch)

    def run_of(data_set, setting):
        of_setting, parts = _pick(settings, setting), of_data_set[data_set]
        if streamed:
            return _streamed_run(step, of_setting, parts)
        return train.run_steps(jax.tree_util.Partial(step, of_setting, parts))

    run_epochs = {(data_set, setting): run_of(data_set, setting) for data_set, setting in runs}

    def run_epoch(states, rows):
        history = []
        for data_set, setting in runs:
            own_rows = jax.tree.map(lambda array, at=data_set: array[:, at], rows)
            state = _pick(states, (data_set, setting))
            state, metrics = run_epochs[data_set, setting](state, own_rows)
            states = _put(states, (data_set, setting), state)
            history.append(metrics)
        shape = (len(seeds), len(method.settings))
        metrics = jax.tree.map(lambda *values: np.stack(values, -1), *history)
        return states, jax.tree.map(lambda values: values.reshape(-1, *shape), metrics)

    def measure_all(states):
        found = []
        for data_set, setting in runs:
            state = _pick(states, (data_set, setting))
            found.append(measure(state.params, state.extra, of_data_set[data_set]))
        shape = (len(seeds), len(method.settings))
        return jax.tree.map(lambda *values: np.stack(values).reshape(shape), *found)

    return Study(_start(method, optimizer, seeds, params, settings), run_epoch, measure_all)


def _streamed_run(step: Callable, setting: Setting, parts: Mapping) -> Callable:
    """Epochs whose batches, with their images, come from threads on the host."""
    known = {name: values for name, values in parts["known"].items() if name != "image"}
    training = jax.tree.map(np.asarray, parts["train"])
    training["image"] = _Rows(parts["known"]["image"], training["index"])
    run = train.dispatch_steps(jax.tree_util.Partial(step, setting, {"known": known}))
    return lambda state, rows: run(state, data.stream(training, rows))


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows of an array that belong to a part, read when they are asked for."""

    array: np.ndarray
    index: np.ndarray

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return self.array[self.index[positions]]


def part_of(parts: Mapping, shared: Mapping | None, index: int) -> dict[str, dict]:
    """The parts of one data set: its own, and what it shares with the others."""
    found = {name: dict(part) for name, part in _pick(dict(parts), index).items()}
    for name, part in (shared or {}).items():
        found[name] = found.get(name, {}) | dict(part)
    return found


def _stacked(settings: Sequence[Setting]) -> dict[str, jax.Array]:
    return {key: jnp.asarray([setting[key] for setting in settings]) for key in settings[0]}


def _optimizer(schedule: Callable, weight_decay: float, learning_rate: jax.Array):
    decayed = optax.add_decayed_weights(weight_decay)
    return optax.chain(decayed, optax.sgd(lambda t: learning_rate * schedule(t), momentum=0.9))


def _start(
    method: Method, optimizer: Callable, seeds: Sequence[int], params: PyTree, settings: PyTree
) -> PyTree:
    """The states before the first step, ``[data sets, settings]``."""

    def start(seed, params, setting):
        tx = optimizer(setting["learning_rate"])
        return train.init_state(params, tx, key=jax.random.key(seed), extra=method.extra)

    start_all = jax.jit(jax.vmap(jax.vmap(start, (None, None, 0)), (0, 0, None)))
    return start_all(jnp.asarray(seeds), params, settings)


def _descend(method: Method, optimizer: Callable, setting: Setting, known: PyTree, state, batch):
    """One step of one run."""
    loss_fn = functools.partial(method.loss_fn, setting, known)
    return train.make_train_step(loss_fn, optimizer(setting["learning_rate"]))(state, batch)


@jax.jit
def _pick(tree: PyTree, at: Any) -> PyTree:
    """The entry of every array at an index of its leading axes."""
    return jax.tree.map(lambda array: array[at], tree)


@functools.partial(jax.jit, donate_argnums=0)
def _put(tree: PyTree, at: Any, entry: PyTree) -> PyTree:
    return jax.tree.map(lambda array, new: array.at[at].set(new), tree, entry)


def train_together(
    studies: Sequence[Study],
    states: Sequence[PyTree],
    plan: Callable[[int], dict[str, np.ndarray]],
    *,
    epochs: int,
    steps_per_epoch: int,
) -> Iterator[tuple[int, list[dict[str, np.ndarray]], list[PyTree]]]:
    """Trains all studies epoch by epoch, from where their states are.

    A run that diverges stays where it is, not finite: that is its result, and validation will not
    choose it.

    Args:
        studies: one for each method.
        states: theirs, the initial ones or restored ones.
        plan: the rows of an epoch, numbered from 0, ``[steps, data sets, batch]``.
        epochs: how many in all.
        steps_per_epoch: how many steps an epoch has.

    Yields:
        The number of the epoch, from 1; for each study what it measures, the mean `loss` of the
        epoch, ``[data sets, settings]``, and the number of `examples` that all its runs saw; the
        states, which the next epoch consumes.
    """
    # The first epoch consumes a copy: the caller's states stay usable.
    states = [jax.tree.map(jnp.copy, state) for state in states]
    for epoch in range(int(np.max(states[0].step)) // steps_per_epoch, epochs):
        rows, measured = plan(epoch), []
        for index, study in enumerate(studies):
            states[index], metrics = study.run_epoch(states[index], rows)
            count = np.asarray(metrics["count"])
            loss = (np.asarray(metrics["loss"]) * count).sum(0) / count.sum(0)
            reports = {"loss": loss, "examples": int(count.sum())}
            measured.append(study.measure(states[index]) | reports)
        yield epoch + 1, measured, states


def search(
    methods: Sequence[Method],
    studies: Sequence[Study],
    plan: Callable[[int], dict[str, np.ndarray]],
    metrics: Sequence[str],
    best: Callable[[np.ndarray], int],
    *,
    epochs: int,
    steps_per_epoch: int,
    resume: Resume,
) -> Generator[Row | Checkpoint, None, tuple[list[PyTree], list[np.ndarray]]]:
    """Trains all methods in lockstep, so that all curves grow together.

    Args:
        methods: what is compared.
        studies: theirs.
        plan: the rows of an epoch, numbered from 0, ``[steps, data sets, batch]``.
        metrics: names of what is measured; the first axis of the history.
        best: the chosen setting, given ``[metrics, data sets, settings]``.
        epochs: how many in all.
        steps_per_epoch: how many steps an epoch has.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best at that time; then a checkpoint.

    Returns:
        The last state of each method, and its history ``[metrics, epochs, data sets, settings]``.
    """
    shapes = [study.state.step.shape for study in studies]
    empty = [np.full((len(metrics), epochs, *shape), np.nan, np.float32) for shape in shapes]
    states, history = resume.restore(([study.state for study in studies], empty))
    examples = resume.rows[-1]["examples"] if resume.rows else 0
    for epoch, measured, trained in train_together(
        studies, states, plan, epochs=epochs, steps_per_epoch=steps_per_epoch
    ):
        for method, values, found in zip(methods, history, measured, strict=True):
            values[:, epoch - 1] = [found[metric] for metric in metrics]
            examples += found["examples"]
            now = values[:, epoch - 1]
            means = now[..., best(now)].mean(1)
            row = {"epoch": epoch, "method": method.name}
            row |= {name: float(mean) for name, mean in zip(metrics, means, strict=True)}
            yield row | {"examples": examples}
        states = trained
        yield Checkpoint((states, history))
    return states, history


def curves(
    methods: Sequence[Method],
    history: Sequence[np.ndarray],
    metrics: Sequence[str],
    best: Callable[[np.ndarray], int],
    titles: Mapping[str, str],
) -> "Figure":
    """A panel per metric: every method at its chosen setting, mean and one deviation over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(titles), 3.6), layout="constrained")
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for panel, (metric, title) in zip(panels, titles.items(), strict=True):
        for method, values in zip(methods, history, strict=True):
            runs = 100 * values[list(metrics).index(metric), :, :, best(values[:, -1])]
            mean, epochs = runs.mean(1), np.arange(1, len(runs) + 1)
            panel.plot(epochs, mean, label=method.name)
            if runs.shape[1] > 1:
                width = runs.std(1, ddof=1)
                panel.fill_between(epochs, mean - width, mean + width, alpha=0.2, linewidth=0)
        panel.set(xlabel="epoch", ylabel="%", title=title)
        panel.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    return figure


def epoch_plans(
    size: int, batch_size: int, seeds: Sequence[int], epoch: int, *, shuffle: bool = True
) -> dict[str, np.ndarray]:
    """The batches of one epoch, an order for each seed: ``[steps, data sets, batch]``."""
    plans = [
        data.epoch_plan(size, batch_size, np.random.default_rng((seed, epoch)) if shuffle else None)
        for seed in seeds
    ]
    return jax.tree.map(lambda *arrays: np.stack(arrays, 1), *plans)


def staircase(
    step: jax.Array, *, total_steps: int, at: tuple[float, float] = (1 / 2, 3 / 4)
) -> jax.Array:
    """The factor on the learning rate: it falls tenfold at two fractions of the training."""
    passed = sum(step >= fraction * total_steps for fraction in at)
    return jnp.where(passed < 1, 1.0, jnp.where(passed < 2, 0.1, 0.01))


def product(**values: Sequence[Any]) -> list[Setting]:
    """All combinations, the last key varying fastest."""
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


def paired_gain(values: np.ndarray, baseline: np.ndarray) -> dict[str, float | None]:
    """Mean and deviation of the difference over seeds, and its ratio to the standard error."""
    differences = values - baseline
    gain, width = differences.mean(), spread(differences)
    ratio = gain / (width / len(differences) ** 0.5) if width else None
    return {"gain": gain, "std of gain": width, "gain / its s.e.": ratio}


def spread(values: np.ndarray) -> float | None:
    """The standard deviation; None of a single value."""
    return values.std(ddof=1) if len(values) > 1 else None


def describe(setting: Setting) -> str:
    """A setting as text."""
    return ", ".join(f"{key} {_brief(value)}" for key, value in setting.items())


def _brief(value: Any) -> str:
    return "/".join(f"{part:g}" for part in np.atleast_1d(value))
