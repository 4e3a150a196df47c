"""Losses against cross-entropy on noisily labelled images: the comparison, and what it shows."""

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lnl_jax import data, losses, models, train
from lnl_jax.comparison.catalogue import Loss, Normalization
from lnl_jax.comparison.image_networks import Augmentation, convolutional, image_runs
from lnl_jax.comparison.methods import measure
from lnl_jax.comparison.mislabelled import (
    Scored,
    add_detection,
    score_training_parts,
    suspicious_images,
    temperatures_figure,
    temperatures_table,
)
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.noisy_images import (
    NoisyImages,
    check_first_folds,
    image_folds,
    name_of_choice,
)
from lnl_jax.comparison.outcome import (
    COLUMNS,
    COLUMNS_GIVEN,
    PANELS,
    PANELS_GIVEN,
    Outcome,
    curves_figure,
    results_table,
)
from lnl_jax.comparison.protocol import Protocol, make_methods
from lnl_jax.comparison.runs import make_trainer, stack_settings, steps_at_once
from lnl_jax.comparison.search import search
from lnl_jax.runner.arguments import check_network
from lnl_jax.runner.outputs import Artifact, Checkpoint, Note, Resume, Row
from lnl_jax.runner.usage import as_text

# As in the official code: softplus for LDR-KL, and before ALDR-KL's norm for CIFAR-100 alone.
OF_100_CLASSES = {"aldr_kl": losses.softplus_mean_normalize}


def compare_on_images(
    noisy_images: NoisyImages,
    *,
    model: Callable,
    loss: Loss | None,
    normalize: Normalization | None,
    augmentation: Augmentation,
    folds: int,
    first_folds: int | None,
    seed: int,
    streamed: bool | None,
    dtype: Any = None,
    shard_tables: bool = False,
    source: str,
    title: str,
    resume: Resume,
    **protocol: Any,
) -> Generator[Row | Checkpoint | Artifact | Note, None, None]:
    """Trains every loss on every fold, one run after the other; yields all that is to be seen.

    Args:
        noisy_images: images and labels.
        model: ``num_classes -> module``, from `lnl_jax.models`.
        loss: compares this one with cross-entropy; None compares all of `COMPARED`.
        normalize: what the logits go through before the loss; None means each loss's own.
        augmentation: of the training images.
        folds: parts of the training set, each of which validates once.
        first_folds: how many of the folds are run; None runs all.
        seed: of the folds, and of initialisation and order, which the folds do not share.
        streamed: whether the images stay on the host and batches of them are streamed to the device
            with grain; None streams those that take more than half of the device's free memory.
        dtype: in which the network computes, such as ``jnp.bfloat16``; None leaves it as it is.
        shard_tables: whether tables of the training examples are split over the devices as well.
        source: the name of the data set.
        title: of the curves.
        resume: where an interrupted run goes on.
        **protocol: the fields of `Protocol`.

    Yields:
        A note of the memory that it takes; a row per epoch and method and checkpoints, also within
        a long epoch, as `search`; at the end the tables ``protocol``, ``results`` and
        ``temperatures``, figures, and the arrays ``history``.

    Raises:
        StudyError: for a network that cannot be built on such images, a setting that a loss
            refuses, a batch or folds of more than there is.
        DevicesError: for a batch that does not split over the devices of `train.over_devices`.
    """
    protocol = Protocol(**protocol)
    mesh = train.batch_mesh(protocol.batch_size, split_tables=shard_tables)
    count = check_first_folds(first_folds, folds)
    splits = noisy_images.splits
    data_sets, shared = image_folds(noisy_images, folds, count, seed)
    if streamed is None:
        both = {"train": splits.train["image"], "test": splits.test["image"]}
        streamed = not data.fits_on_device(both)
    seeds = range(seed * folds, seed * folds + count)
    size = len(data_sets[0]["train"]["index"])
    module = model(splits.num_classes)
    module = module if dtype is None else models.in_dtype(module, dtype)
    example = jnp.zeros((1, *splits.train["image"].shape[1:]))
    check_network("model", lambda: module.init(jax.random.key(0), example))
    variables = initial_variables(module, example, seeds, impl="rbg")
    stats = jax.tree.map(lambda array: array[0], variables.get("batch_stats", {}))
    padded = size % protocol.batch_size > 0
    network = convolutional(module, splits.num_classes, stats, augmentation, padded=padded)
    normalizations = OF_100_CLASSES if splits.num_classes == 100 else {}
    methods = make_methods(loss, normalize, network, protocol, size, normalizations)
    # What the folds share, they share in memory.
    shared = shared if streamed else jax.tree.map(jnp.asarray, shared)
    for position, data_set in enumerate(data_sets):
        params = jax.tree.map(lambda array, at=position: array[at], variables["params"])
        data_set |= {"params": params, "seed": seeds[position], "test": shared["test"]}
        data_set["known"] |= shared["known"]
    schedule = train.staircase_schedule(protocol.total_steps(size), at=(1 / 3, 2 / 3))
    all_runs = [
        image_runs(
            make_trainer(
                method,
                schedule,
                functools.partial(measure, network),
                weight_decay=protocol.weight_decay,
            ),
            stack_settings(method.settings),
            data_sets,
            streamed=streamed,
            mesh=mesh,
            shard_tables=shard_tables,
        )
        for method in methods
    ]
    plan = data.epoch_plans(size, protocol.batch_size, seeds)
    num_runs = count * sum(len(method.settings) for method in methods)
    options = {"epochs": protocol.epochs, "steps_at_once": steps_at_once(num_runs)}
    outcome = yield from search(methods, all_runs, plan, **options, resume=resume)
    scored = score_training_parts(outcome, network, data_sets, streamed=streamed)
    name = name_of_choice(model)
    source = f"{source}{', generated' * splits.generated}"
    line = {"data": source, "model": name, "training examples": size, "folds": count}
    line |= {key: as_text(value) for key, value in protocol._asdict().items()}
    yield Artifact("protocol", [line])
    title = f"{source}, {name}; {title}; {count} of {folds} folds"
    yield from _artifacts(outcome, scored, [each["train"] for each in data_sets], splits, title)


def _artifacts(
    outcome: Outcome,
    scored: Mapping[str, Sequence[Scored]],
    training: Sequence[Mapping],
    splits: data.Splits,
    title: str,
) -> Generator[Artifact, None, None]:
    false = [part["label"] != part["clean_label"] for part in training]
    given = splits.given
    columns, panels = (COLUMNS_GIVEN, PANELS_GIVEN) if given else (COLUMNS, PANELS)
    results = add_detection(results_table(outcome, columns), scored, false)
    yield Artifact("results", results)
    yield Artifact("curves", curves_figure(outcome, title, panels))
    if histogram := temperatures_figure(scored, false, given=given):
        yield Artifact("temperatures", temperatures_table(scored, false, given=given))
        yield Artifact("temperature_histogram", histogram)
    # Who finds the false labels best, or where none is known who predicts best.
    first = next(iter(columns))
    finder = max(results, key=lambda row: row.get("AUROC %", row[first]))["method"]
    suspicious = suspicious_images(scored[finder][0], training[0], splits, finder)
    yield Artifact("suspicious", suspicious)
    yield Artifact("history", outcome.arrays)
