"""LDR-KL against cross-entropy on noisily labelled handwritten digits."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.choices import LOSSES, NORMALIZATIONS, Loss, Normalization, unnormalized
from experiments.outputs import Artifact, Checkpoint, Resume
from lnl_jax import data, losses, metrics, models, noise, train
from lnl_jax.data.digits import NUM_CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL = models.MLP(num_classes=NUM_CLASSES, hidden=(64, 64))
BASELINE = "cross_entropy"
# Per epoch, seed and setting; `accuracy` and `nll` are on the clean test labels.
METRICS = ("loss", "accuracy", "nll", "validation_accuracy", "memorized")
PyTree = Any


class Method(NamedTuple):
    """A loss, what its logits go through, and the settings among which validation chooses."""

    name: str
    loss: Loss
    normalize: Normalization
    settings: list[dict[str, float]]


class Study(NamedTuple):
    """All runs of one method: seeds by settings, trained at once."""

    state: PyTree
    step: Callable
    measure: Callable


def ldr_digits(
    *,
    loss: Annotated[Loss | None, LOSSES] = None,
    normalize: Annotated[Normalization | None, NORMALIZATIONS] = None,
    noise_rate: float = 0.6,
    seeds: int = 5,
    epochs: int = 50,
    batch_size: int = 64,
    learning_rates: tuple[float, ...] = (0.1, 0.03, 0.01),
    temperatures: tuple[float, ...] = (0.1, 1.0, 10.0),
    qs: tuple[float, ...] = (0.05, 0.7, 0.95),
    margin: float = 0.1,
    weight_decay: float = 5e-3,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """LDR-KL, ALDR-KL, GCE and cross-entropy on real digits with 60% symmetric label noise.

    The tabular protocol of Zhu et al., "Label Distributionally Robust Losses for Multi-class
    Classification" (ICML 2023), on scikit-learn's embedded handwritten digits. A fraction
    `noise_rate` of the training and validation labels is drawn again over all ten classes. A tanh
    network 64-64-64-10 is trained by SGD with momentum 0.9; the learning rate falls tenfold at a
    half and at three quarters. Learning rate and hyperparameter are those with the best mean
    accuracy on noisy validation labels; reported is the accuracy on clean test labels after the
    last epoch. Each seed has a split, noise, initialisation and order of its own, which all losses
    share, so that differences are paired. All seeds and settings of a loss train at once.

    About a minute on 2 CPU cores; the results are in the README:
        python experiments/run.py --exp ldr_digits

    Args:
        loss: compares this one with cross-entropy; none compares all four.
        normalize: what the logits go through before the loss, except for cross-entropy; none means
            softplus_mean for ldr_kl and l1_mean for aldr_kl, as in the official code.
        noise_rate: fraction of the labels that are drawn again, from 0 to 1.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        temperatures: to choose from, for a loss whose temperature is not set.
        qs: to choose from, for a loss whose q is not set.
        margin: for a loss whose margin is not set.
        weight_decay: added to the gradient, for all parameters.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best on validation at that time; a
        checkpoint per epoch; at the end the table `results`, the figure `curves` and the arrays
        `history`, a value per metric, epoch, seed and setting.
    """
    named = {"learning_rates": learning_rates, "temperatures": temperatures, "qs": qs}
    _check(noise_rate, seeds, epochs, batch_size, weight_decay, named)
    grids = {"temperature": temperatures, "q": qs}
    methods = [
        _method(*compared, learning_rates, grids, margin) for compared in _compared(loss, normalize)
    ]
    parts = _noisy_digits(noise_rate, seeds)
    size = parts["train"]["x"].shape[1]
    steps_per_epoch = -(-size // batch_size)
    schedule = functools.partial(_staircase, total_steps=steps_per_epoch * epochs)
    studies = [_study(method, parts, schedule, weight_decay) for method in methods]
    states, history = resume.restore(
        (
            [study.state for study in studies],
            [_empty_history(epochs, seeds, len(method.settings)) for method in methods],
        )
    )
    fits = [
        train.fit(
            train.run_steps(study.step),
            state,
            functools.partial(_plan, size, batch_size, seeds),
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
        )
        for study, state in zip(studies, states, strict=True)
    ]
    examples = resume.rows[-1]["examples"] if resume.rows else 0
    # In lockstep, so that all curves grow together and one checkpoint holds everything.
    for fitted in zip(*fits, strict=True):
        for method, study, values, (row, state) in zip(
            methods, studies, history, fitted, strict=True
        ):
            epoch = row["epoch"]
            measured = study.measure(state) | {"loss": row["loss"]}
            values[:, epoch - 1] = [measured[metric] for metric in METRICS]
            examples += size * seeds * len(method.settings)
            means = _means(values[:, epoch - 1])
            yield {"epoch": epoch, "method": method.name} | means | {"examples": examples}
        yield Checkpoint(([state for _, state in fitted], history))
    yield Artifact("results", _results(methods, history))
    yield Artifact("curves", _curves(methods, history, noise_rate))
    arrays = {method.name: values for method, values in zip(methods, history, strict=True)}
    yield Artifact("history", arrays)


def noise_rates() -> Iterator[dict[str, Any]]:
    """From clean labels to 90% of them drawn again."""
    for noise_rate in (0.0, 0.3, 0.6, 0.9):
        yield {"noise_rate": noise_rate}


def _check(
    noise_rate: float,
    seeds: int,
    epochs: int,
    batch_size: int,
    weight_decay: float,
    grids: dict[str, tuple[float, ...]],
) -> None:
    if not 0 <= noise_rate <= 1:
        raise ValueError(f"noise_rate must be from 0 to 1, got {noise_rate}.")
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2, for a standard deviation; got {seeds}.")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    for name, values in grids.items():
        if not values:
            raise ValueError(f"{name} must hold at least one value to choose from, got none.")
    if min(grids["learning_rates"]) <= 0:
        raise ValueError(f"learning_rates must be above 0, got {grids['learning_rates']}.")
    if weight_decay < 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}.")


def _compared(
    loss: Loss | None, normalize: Normalization | None
) -> list[tuple[str, Loss, Normalization]]:
    """Cross-entropy, always, and what it is compared with: names, losses, normalisations."""
    own = {"ldr_kl": losses.softplus_mean_normalize, "aldr_kl": losses.l1_mean_normalize}
    baseline = (BASELINE, LOSSES[BASELINE], unnormalized)
    functions = LOSSES if loss is None else {_name(loss): loss}
    return [baseline] + [
        (name, function, normalize or own.get(name, unnormalized))
        for name, function in functions.items()
        if name != BASELINE
    ]


def _name(loss: Loss) -> str:
    chosen = loss.func if isinstance(loss, functools.partial) else loss
    return next(name for name, function in LOSSES.items() if function is chosen)


def _method(
    name: str,
    loss: Loss,
    normalize: Normalization,
    learning_rates: tuple[float, ...],
    grids: dict[str, tuple[float, ...]],
    margin: float,
) -> Method:
    """Fills in the margin and spans the grid over the hyperparameters that are still open."""
    fixed = loss.keywords if isinstance(loss, functools.partial) else {}
    is_open = set(inspect.signature(loss).parameters) - set(fixed)
    if "margin" in is_open:
        loss = functools.partial(loss, margin=margin)
    grid = {"learning_rate": learning_rates}
    grid |= {key: values for key, values in grids.items() if key in is_open}
    settings = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    # Called once outside of any program, where a value out of range still has a name.
    for setting in settings:
        hyperparameters = {key: value for key, value in setting.items() if key != "learning_rate"}
        loss(jnp.zeros((1, NUM_CLASSES)), jnp.zeros(1, jnp.int32), **hyperparameters)
    return Method(name, loss, normalize, settings)


def _noisy_digits(noise_rate: float, seeds: int) -> dict[str, dict[str, np.ndarray]]:
    """Training, validation and test part, each array with a leading axis of seeds."""
    full = data.digits()
    matrix = noise.symmetric(NUM_CLASSES, noise_rate, include_self=True)
    parts = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rest, test = data.hold_out(full, 0.2, rng)
        noisy = noise.corrupt(rest["label"], matrix, rng)
        rest |= {"clean_label": rest["label"], "label": noisy.labels}
        training, validation = data.hold_out(rest, 0.2, rng)
        parts.append({"train": training, "validation": validation, "test": test})
    return jax.tree.map(lambda *arrays: np.stack(arrays), *parts)


def _plan(size: int, batch_size: int, seeds: int, epoch: int) -> dict[str, np.ndarray]:
    """The batches of one epoch, an order for each seed: `[steps, seeds, batch]`."""
    plans = [
        data.epoch_plan(size, batch_size, np.random.default_rng((seed, epoch)))
        for seed in range(seeds)
    ]
    return jax.tree.map(lambda *arrays: np.stack(arrays, 1), *plans)


def _staircase(step: jax.Array, *, total_steps: int) -> jax.Array:
    """The factor on the learning rate: a tenth after one half, a hundredth after 3/4."""
    passed = step * 4 // total_steps
    return jnp.where(passed < 2, 1.0, jnp.where(passed < 3, 0.1, 0.01))


def _study(
    method: Method, parts: dict[str, dict], schedule: Callable, weight_decay: float
) -> Study:
    """States and functions with two leading axes: seeds, each with its own data, and settings."""
    settings = {
        key: jnp.asarray([setting[key] for setting in method.settings])
        for key in method.settings[0]
    }
    parts = jax.tree.map(jnp.asarray, parts)
    seeds = jnp.arange(len(parts["train"]["x"]))

    def optimizer(learning_rate):
        decayed = optax.add_decayed_weights(weight_decay)
        return optax.chain(decayed, optax.sgd(lambda t: learning_rate * schedule(t), momentum=0.9))

    def start(seed, setting):
        key = jax.random.key(seed)
        params = MODEL.init(key, parts["train"]["x"][0, :1])
        return train.init_state(params, optimizer(setting["learning_rate"]), key=key)

    def descend(setting, state, batch):
        hyperparameters = {key: v for key, v in setting.items() if key != "learning_rate"}

        def loss_fn(params, extra, rows, batch, key):
            logits = method.normalize(MODEL.apply(params, batch["x"]))
            return method.loss(logits, batch["label"], **hyperparameters), (extra, rows, {})

        step = train.make_train_step(loss_fn, optimizer(setting["learning_rate"]))
        return step(state, batch)

    def step(states, rows):
        def one_seed(states, training, rows):
            batch = data.take(training, rows)
            return jax.vmap(descend, in_axes=(0, 0, None))(settings, states, batch)

        return jax.vmap(one_seed)(states, parts["train"], rows)

    def measure(states):
        of_settings = jax.vmap(_measure, in_axes=(0, None))
        return jax.vmap(of_settings)(states.params, parts)

    state = jax.jit(jax.vmap(jax.vmap(start, in_axes=(None, 0)), in_axes=(0, None)))
    return Study(state(seeds, settings), step, jax.jit(measure))


def _measure(params: PyTree, parts: dict[str, dict]) -> dict[str, jax.Array]:
    training, validation, test = parts["train"], parts["validation"], parts["test"]
    on_test = MODEL.apply(params, test["x"])
    on_training = MODEL.apply(params, training["x"])
    averages = {
        "accuracy": metrics.accuracy(on_test, test["label"]),
        "nll": metrics.negative_log_likelihood(on_test, test["label"]),
        "validation_accuracy": metrics.accuracy(
            MODEL.apply(params, validation["x"]), validation["label"]
        ),
        "memorized": metrics.memorization(on_training, training["label"], training["clean_label"]),
    }
    return {name: average.value for name, average in averages.items()}


def _empty_history(epochs: int, seeds: int, settings: int) -> np.ndarray:
    return np.full((len(METRICS), epochs, seeds, settings), np.nan, np.float32)


def _best(values: np.ndarray) -> int:
    """The setting with the best mean validation accuracy, given `[..., seeds, settings]`."""
    return int(values[METRICS.index("validation_accuracy")].mean(0).argmax())


def _means(values: np.ndarray) -> dict[str, float]:
    """The metrics of one epoch at the setting that is best in it, averaged over the seeds."""
    means = values[:, :, _best(values)].mean(1)
    return {name: float(value) for name, value in zip(METRICS, means, strict=True)}


def _results(methods: list[Method], history: list[np.ndarray]) -> list[dict[str, Any]]:
    """A line per method: the chosen setting, percentages, and the paired gain over the first."""
    rows = []
    for method, values in zip(methods, history, strict=True):
        last = values[:, -1]
        best = _best(last)
        of = {name: last[index, :, best] for index, name in enumerate(METRICS)}
        accuracy = 100 * of["accuracy"].astype(np.float64)
        row = {"method": method.name}
        row |= {"accuracy %": accuracy.mean(), "std": accuracy.std(ddof=1)}
        if not rows:
            baseline = accuracy
            row |= {"gain": None, "std of gain": None, "gain / its s.e.": None}
        else:
            gain, spread = (accuracy - baseline).mean(), (accuracy - baseline).std(ddof=1)
            ratio = gain / (spread / len(accuracy) ** 0.5) if spread > 0 else None
            row |= {"gain": gain, "std of gain": spread, "gain / its s.e.": ratio}
        row |= {"nll": of["nll"].mean(), "memorized %": 100 * of["memorized"].mean()}
        row = {key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()}
        chosen = method.settings[best]
        rows.append(row | {"chosen": ", ".join(f"{key} {v:g}" for key, v in chosen.items())})
    return rows


def _curves(methods: list[Method], history: list[np.ndarray], noise_rate: float) -> "Figure":
    """Accuracy and memorisation of the chosen settings: mean over seeds, band of one deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {"accuracy": "clean test accuracy", "memorized": "false labels memorised"}
    axes = figure.subplots(1, len(titles))
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
        for method, values in zip(methods, history, strict=True):
            curves = 100 * values[METRICS.index(metric), :, :, _best(values[:, -1])]
            mean, spread = curves.mean(1), curves.std(1, ddof=1)
            epochs = np.arange(1, len(mean) + 1)
            axis.plot(epochs, mean, label=method.name)
            axis.fill_between(epochs, mean - spread, mean + spread, alpha=0.2, linewidth=0)
        axis.set(xlabel="epoch", ylabel="%", title=title)
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right", frameon=False)
    seeds = history[0].shape[2]
    figure.suptitle(f"digits, {noise_rate:.0%} of labels redrawn; {seeds} seeds, mean ± std")
    return figure
