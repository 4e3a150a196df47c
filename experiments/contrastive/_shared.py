"""Contrastive trainings side by side: the losses as functions of views, runs over seeds and starts.

Every run has a table of temperatures, moving averages and velocities, a row per training example;
losses without such state hand their rows back as they were.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import contrastive, data, train
from lnl_jax.runner.arguments import StudyError, check_once, refused
from lnl_jax.runner.outputs import Checkpoint, Resume

PyTree = Any
# (views of unit norm [2, B, d], rows, mask [B]) -> (losses [B], rows)
ContrastiveLoss = Callable[..., tuple[jax.Array, contrastive.ContrastiveRows]]
# (params, extra, batch, key) -> (views of unit norm [2, B, d], extra)
Embed = Callable[..., tuple[jax.Array, PyTree]]


class Contrast(NamedTuple):
    """A contrastive method.

    Attributes:
        name: in rows and tables.
        loss: of views.
        starts: the initial temperatures, one run each.
    """

    name: str
    loss: ContrastiveLoss
    starts: Sequence[float]


def contrasts(
    *,
    temperature: float,
    starts: Sequence[float],
    rho: float,
    gamma: float,
    temperature_step: float,
    temperature_momentum: float,
    temperature_clip: float,
    temperature_range: tuple[float, float],
) -> list[Contrast]:
    """SimCLR, SogCLR and iSogCLR.

    Args:
        temperature: of SimCLR and SogCLR.
        starts: initial temperatures of iSogCLR, the first of which is compared with the others.
        rho: see `contrastive.isogclr`.
        gamma: see `contrastive.isogclr`.
        temperature_step: see `contrastive.isogclr`.
        temperature_momentum: see `contrastive.isogclr`.
        temperature_clip: see `contrastive.isogclr`.
        temperature_range: see `contrastive.isogclr`.
    """
    learnt = contrastive.Temperatures(
        rho, temperature_step, temperature_momentum, tuple(temperature_range), temperature_clip
    )

    def simclr(first, second, rows, where):
        return contrastive.info_nce(first, second, temperature=rows.temperature, where=where), rows

    def sogclr(first, second, rows, where):
        values, log_u, _ = contrastive.sogclr(
            first, second, rows.log_u, temperature=rows.temperature, gamma=gamma, where=where
        )
        return values, rows._replace(log_u=log_u)

    def isogclr(first, second, rows, where):
        values, rows, _ = contrastive.isogclr(
            first,
            second,
            rows,
            gamma=gamma,
            temperatures=learnt,
            where=where,
        )
        return values, rows

    return [
        Contrast("simclr", simclr, (temperature,)),
        Contrast("sogclr", sogclr, (temperature,)),
        Contrast("isogclr", isogclr, tuple(starts)),
    ]


def check_losses(methods: Sequence[Contrast], size: int) -> None:
    """Traces every loss on a step of that many views, or pairs, before anything is trained.

    Raises:
        StudyError: for what a loss refuses.
    """
    views = jax.ShapeDtypeStruct((size, 2), jnp.float32)
    where = jax.ShapeDtypeStruct((1, size), bool)
    for method in methods:
        with refused(method.name):
            rows = jax.eval_shape(lambda start=method.starts[0]: new_table(size, start).values)
            jax.eval_shape(method.loss, views, views, rows, where)


def check_contrast(
    batch_size: int, starts: Sequence[float], temperature_range: Sequence[float]
) -> None:
    """Raises a StudyError that names the setting which makes no sense."""
    if batch_size < 2:
        raise StudyError(f"batch_size must be at least 2, got {batch_size}.")
    if len(temperature_range) != 2 or not 0 < temperature_range[0] < temperature_range[1]:
        raise StudyError(f"temperature_range must be two rising numbers, got {temperature_range}.")
    low, high = temperature_range
    check_once("starts", starts)
    if not all(low <= start <= high for start in starts):
        raise StudyError(f"starts must be from {low} to {high}, the range, got {starts}.")


def unit(vectors: jax.Array) -> jax.Array:
    """Vectors of unit norm, with a finite gradient at 0."""
    return vectors * jax.lax.rsqrt(jnp.square(vectors).sum(-1, keepdims=True) + 1e-12)


def of_views(contrast: Contrast, embed: Embed) -> Callable:
    """A loss function of `train.make_train_step`: two views of each example."""

    def loss_fn(params, extra, rows, batch, key):
        views, extra = embed(params, extra, batch, key)
        where = jnp.tile(batch["mask"], 2)[None]
        values, rows = contrast.loss(views, views, rows, where)
        return values, (extra, rows, {"temperature": rows.temperature})

    return loss_fn


def of_pairs(contrast: Contrast, embed: Embed) -> Callable:
    """Likewise for the two sides of a pair, each with rows of its own."""

    def loss_fn(params, extra, rows, batch, key):
        (first, second), extra = embed(params, extra, batch, key)
        where = batch["mask"][None]
        there, rows_first = contrast.loss(first, second, rows["first"], where)
        back, rows_second = contrast.loss(second, first, rows["second"], where)
        rows = {"first": rows_first, "second": rows_second}
        temperature = (rows_first.temperature + rows_second.temperature) / 2
        return (there + back) / 2, (extra, rows, {"temperature": temperature})

    return loss_fn


def new_table(size: int, start: float, labels: np.ndarray | None = None) -> train.Table:
    """The rows before the first visit.

    Args:
        size: N.
        start: the initial temperature.
        labels: of the training set, which name it in checkpoints.
    """
    name = "" if labels is None else train.fingerprint(labels)
    return contrastive.isogclr_table(size, start, fingerprint=name)


class Runs(NamedTuple):
    """All runs of one method.

    Attributes:
        state: a `TrainState` with the axes ``[starts, seeds]``.
        run: ``(state, rows) -> (state, metrics)`` over steps, rows ``[steps, seeds, batch]``.
    """

    state: PyTree
    run: Callable


def make_runs(
    contrast: Contrast,
    loss_fn: Callable,
    tx: optax.GradientTransformation,
    params: PyTree,
    parts: Mapping[str, np.ndarray],
    tables: Callable[[float], PyTree],
    seeds: Sequence[int],
    extra: PyTree = (),
) -> Runs:
    """Puts the runs of a method side by side, one compiled program over starts and seeds.

    Args:
        contrast: the method.
        loss_fn: of `of_views` or `of_pairs`.
        tx: the optimiser.
        params: the initial ones, ``[seeds, ...]``, shared by the starts.
        parts: the training sets, ``[seeds, N, ...]``.
        tables: from an initial temperature.
        seeds: of the steps.
        extra: the initial batch statistics or the like, ``[seeds, ...]``.
    """
    step = train.make_train_step(loss_fn, tx)

    def start(params, extra, seed, temperature):
        key = jax.random.key(seed)
        return train.init_state(params, tx, key=key, extra=extra, tables=tables(temperature))

    start = jax.vmap(jax.vmap(start, (0, 0, 0, None)), (None, None, None, 0))
    state = jax.jit(start)(params, extra, jnp.asarray(seeds), jnp.asarray(contrast.starts))

    def advance(parts, state, rows):
        def of_one_seed(state, part, rows):
            return jax.vmap(step, (0, None))(state, data.take(part, rows))

        return jax.vmap(of_one_seed, (1, 0, 0), (1, 1))(state, parts, rows)

    parts = jax.tree.map(jnp.asarray, dict(parts))
    return Runs(state, train.run_steps(jax.tree_util.Partial(advance, parts)))


def train_in_turns(
    methods: Sequence[Contrast],
    runs: Sequence[Runs],
    describe: Callable[[Contrast, PyTree], dict[str, Any]],
    *,
    shape: tuple[int, int],
    epochs: int,
    batch_size: int,
    every: int,
    resume: Resume,
    first_seed: int = 0,
) -> Generator[dict[str, Any] | Checkpoint, None, list[PyTree]]:
    """Trains each method for some epochs, then the next; returns their last states.

    Args:
        methods: in the order in which they are trained.
        runs: of `make_runs`, one for each.
        describe: ``(method, state) -> further columns`` of a row.
        shape: seeds and training examples.
        epochs: passes over the training set.
        batch_size: examples per step.
        every: so many epochs are a turn.
        resume: where an interrupted run goes on.
        first_seed: of the order; the others follow.

    Yields:
        A row per method and turn, and a checkpoint per turn.
    """
    count, size = shape
    seeds = range(first_seed, first_seed + count)
    states = resume.restore([run.state for run in runs])
    # What is trained is donated; the initial parameters are those of several methods.
    states = [jax.tree.map(jnp.copy, state) for state in states]
    examples = resume.rows[-1]["examples"] if resume.rows else 0
    done = int(np.max(states[-1].step)) // -(-size // batch_size)
    while done < epochs:
        last = min(done + every, epochs)
        rows = epochs_plan(size, batch_size, seeds, range(done, last))
        done = last
        for index, (method, run) in enumerate(zip(methods, runs, strict=True)):
            states[index], found = run.run(states[index], rows)
            examples += int(np.asarray(found["count"]).sum())
            row = {"epoch": done, "method": method.name, "loss": float(found["loss"].mean())}
            yield row | describe(method, states[index]) | {"examples": examples}
        yield Checkpoint(states)
    return states


def epochs_plan(
    size: int, batch_size: int, seeds: Sequence[int], epochs: Sequence[int]
) -> dict[str, np.ndarray]:
    """The batches of several epochs in a row, ``[steps, seeds, batch]``."""
    plans = [
        [data.epoch_plan(size, batch_size, np.random.default_rng((seed, epoch))) for seed in seeds]
        for epoch in epochs
    ]
    stacked = [jax.tree.map(lambda *arrays: np.stack(arrays, 1), *plan) for plan in plans]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *stacked)


def standardized(features: jax.Array, reference: jax.Array) -> jax.Array:
    """Features with the mean and deviation of the reference taken out, ``[N, D]``."""
    mean, deviation = reference.mean(0), reference.std(0)
    return (features - mean[None]) / jnp.where(deviation > 1e-6, deviation, 1)[None]


def balanced(labels: jax.Array, num_classes: int) -> jax.Array:
    """Weights that give every class the same share."""
    counts = jnp.zeros(num_classes).at[labels].add(1.0)
    return 1 / counts[labels]


NUM_CLASSES, LARGEST_CLASS, TEST_PER_CLASS, SIDE = 10, 120, 50, 8


def long_tailed_digits(imbalance: float, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """A training part whose classes shrink geometrically, and a balanced test part."""
    rng = np.random.default_rng(seed)
    digits = data.digits()
    sizes = LARGEST_CLASS * imbalance ** (np.arange(NUM_CLASSES) / (NUM_CLASSES - 1))
    train, test = [], []
    for label, size in zip(rng.permutation(NUM_CLASSES), sizes, strict=True):
        members = rng.permutation(np.flatnonzero(digits["label"] == label))
        test.append(members[:TEST_PER_CLASS])
        train.append(members[TEST_PER_CLASS:][: max(round(size), 1)])
    parts = {"train": np.sort(np.concatenate(train)), "test": np.sort(np.concatenate(test))}
    found = {
        name: {key: values[rows] for key, values in digits.items()} for name, rows in parts.items()
    }
    # The tables have a row for each training example, not for each digit of the source.
    for part in found.values():
        part["index"] = np.arange(len(part["label"]), dtype=np.int32)
    return found


def random_view(key: jax.Array, x: jax.Array) -> jax.Array:
    """Rotated by up to 17 degrees, scaled, shifted, of another contrast and noisy: ``[B, 64]``."""
    keys = jax.random.split(key, 5)
    size = len(x)

    def uniform(key, low, high, *shape):
        return jax.random.uniform(key, (size, *shape), minval=low, maxval=high)

    angle = uniform(keys[0], -0.3, 0.3)
    scale = uniform(keys[1], 0.85, 1.15)
    shift = uniform(keys[2], -0.75, 0.75, 2)
    centre = (SIDE - 1) / 2
    grid = jnp.stack(jnp.meshgrid(jnp.arange(SIDE), jnp.arange(SIDE), indexing="ij")) - centre
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    turn = jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
    places = jnp.einsum("ijb,jhw->bihw", turn, grid) + (centre + shift)[:, :, None, None]
    sample = jax.vmap(lambda image, at: jax.scipy.ndimage.map_coordinates(image, at, order=1))
    moved = sample(x.reshape(size, SIDE, SIDE), places).reshape(size, -1)
    contrast = uniform(keys[3], 0.7, 1.3, 1)
    return moved * contrast + 0.1 * jax.random.normal(keys[4], moved.shape)
