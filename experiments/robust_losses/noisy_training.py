"""Training on noisy labels: losses with and without state, pairs of networks, learned weights."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.robust_losses import _shared
from lnl_jax import data, models, train
from lnl_jax import noise as noises
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.noisy_catalogue import MORE, OF_ONE_LOSS, Grids, noisy_methods
from lnl_jax.comparison.noisy_methods import NOISY_METRICS, measure_noisy, refreshed
from lnl_jax.comparison.outcome import (
    COLUMNS,
    COLUMNS_GIVEN,
    PANELS,
    PANELS_GIVEN,
    curves_figure,
    results_table,
)
from lnl_jax.comparison.runs import make_trainer, stack_settings
from lnl_jax.comparison.search import search
from lnl_jax.comparison.table_sets import TABLE_SETS, digits, plain_name
from lnl_jax.data.splits import stack
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    Precision,
    Seeds,
    Share,
    check_batch_size,
    check_names,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume


def uniform(num_classes: int, rate: float) -> np.ndarray:
    """A fraction of the labels is drawn again over all classes."""
    return noises.symmetric(num_classes, rate, include_self=True)


def none(num_classes: int, rate: float) -> np.ndarray:
    """The labels stay as they were given, whatever the rate, for those that are noisy already."""
    del rate
    return np.eye(num_classes)


NOISES: dict[str, Callable] = {"uniform": uniform, "pairflip": noises.pairflip, "none": none}
SETS: dict[str, Callable] = TABLE_SETS | {"cifar10": data.cifar10, "cifar100": data.cifar100}


@study
def noisy_training(
    *,
    dataset: Annotated[Callable, SETS] = digits,
    methods: tuple[str, ...] = (*OF_ONE_LOSS, *MORE),
    noise: Annotated[Callable, NOISES] = uniform,
    noise_rate: Share = 0.6,
    labels: str | None = None,
    seeds: Seeds = 5,
    epochs: Count = 50,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.03),
    weight_decay: NotNegative = 5e-3,
    hidden: tuple[Count, ...] = (64, 64),
    grids: Grids = Grids(),
    precision: Precision = jnp.float32,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """Losses, ELR, SOP, co-teaching, nested dropout, the core of DivideMix and STORM on one set.

    A tanh network, for images a ConvNet of 16, 32 and 64 channels, is trained by SGD with momentum
    0.9, the learning rate falling tenfold at a half and at three quarters. Learning rate and
    hyperparameters are those with the best mean accuracy on noisy validation labels; everything is
    paired by seed: split, noise, initialisation, order. Shown are accuracy on clean test labels,
    the share of false training labels that the network predicts, and how well each method's own
    suspicion finds them: the loss, for ELR the target, for SOP the noise terms, for DivideMix the
    mixture, for STORM the weight.

    Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels" (NeurIPS
    2020); Liu et al., "Robust Training under Label Noise by Over-parameterization" (ICML 2022); Han
    et al., "Co-teaching" (NeurIPS 2018); Chen et al., "Compressing Features for Learning with Noisy
    Labels" (2022); Li et al., "DivideMix" (ICLR 2020); Heck et al., STORM (AAAI 2025):
        python experiments/run.py --exp noisy_training
        python experiments/run.py --exp noisy_training --dataset cifar10 --data_dir DIR \
            --noise none --labels worse --epochs 20 --learning_rates 0.05 --weight_decay 5e-4

    Time: two minutes on 2 CPU cores; on 8,000 images 40 s for a method, a seed and a setting.

    Result: ELR 95.3%, the core of DivideMix 94.9, ALDR-KL 94.2, cross-entropy 90.1; on CIFAR-10N
    cross-entropy memorises 93% of the false labels, SOP 88%, ELR 71%; docs/results/noisy_training,
    made by commits aa3c2c2 and 89a1a48.

    Args:
        dataset: of numbers or images, or your own: csv, npz, tfds; its labels are then given, not
            clean.
        methods: which ones; cross-entropy, the baseline, always is among them.
        noise: which labels become false; none for labels that are noisy already.
        noise_rate: fraction of the labels that are drawn again or flipped, from 0 to 1.
        labels: those of the set, label_NAME, that are trained on; its own are then taken for the
            true ones.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decay: added to the gradient, for all parameters.
        hidden: widths of the hidden layers for numbers, at least one; nested dropout orders as many
            features as the last of them.
        grids: what else validation chooses from.
        precision: in which the networks compute: bfloat16 is for accelerators.
        data_dir: where a data set other than digits looks for its file.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best on validation at that time; a
        checkpoint per epoch; at the end the table `results`, the figure `curves` and the arrays
        `history`, a value per metric, epoch, seed and setting.
    """
    check_names("methods", methods, (*OF_ONE_LOSS, *MORE))
    with refused():
        splits = _shared.standardized(_shared.with_labels(dataset(data_dir), labels))
        matrix = noise(splits.num_classes, noise_rate)
        of_splits = functools.partial(_shared.noisy_rows, splits)
        make = _shared.noisy_digits if dataset is digits else of_splits
        data_sets = [make(matrix, seed) for seed in range(seeds)]
    for each in data_sets:
        # By which nested dropout chooses how many features count.
        each["known"] |= {"validation": each["validation"]}
    size = len(data_sets[0]["train"]["label"])
    check_batch_size(batch_size, size)
    steps_per_epoch = -(-size // batch_size)
    model, ordered = _networks(splits, hidden, precision)
    names = ("cross_entropy", *(name for name in methods if name != "cross_entropy"))
    chosen = noisy_methods(
        names,
        learning_rates,
        model=model,
        ordered=ordered,
        grids=grids,
        num_examples=size,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
    )
    schedule = train.staircase_schedule(steps_per_epoch * epochs)
    example = data_sets[0]["train"]["x"][:1]
    # Once on the device, not once for each method.
    parts = jax.tree.map(jnp.asarray, stack(data_sets) | {"seed": np.arange(seeds)})
    all_runs = []
    for noisy, network in chosen:
        params = noisy.prepare(initial_variables(network, example, range(seeds)))
        trainer = make_trainer(
            noisy.method,
            schedule,
            functools.partial(measure_noisy, noisy),
            weight_decay=weight_decay,
        )
        settings, whole = stack_settings(noisy.method.settings), parts | {"params": params}
        if "image" in splits.train:
            each = [jax.tree.map(lambda array, at=at: array[at], whole) for at in range(seeds)]
            runs = train.in_turn(trainer, settings, each, mesh=train.batch_mesh(batch_size))
        else:
            runs = train.in_lanes(trainer, settings, whole)
        all_runs.append(refreshed(noisy, runs, data_sets))
    plan = data.epoch_plans(size, batch_size, range(seeds))
    outcome = yield from search(
        [noisy.method for noisy, _ in chosen],
        all_runs,
        plan,
        epochs=epochs,
        resume=resume,
        metrics=NOISY_METRICS,
    )
    changed = "labels as given" if noise is none else f"{noise_rate:.0%} of labels changed"
    changed = changed if labels is None else f"labels '{labels}', {changed}"
    title = f"{plain_name(dataset)}, {changed}; {seeds} seeds, mean ± std"
    columns, panels = (COLUMNS_GIVEN, PANELS_GIVEN) if splits.given else (COLUMNS, PANELS)
    columns = columns | {"suspicion AUROC %": "suspicion"}
    yield Artifact("results", results_table(outcome, columns))
    yield Artifact("curves", curves_figure(outcome, title, panels))
    yield Artifact("history", outcome.arrays)


def _networks(splits: data.Splits, hidden: Sequence[int], precision: Any) -> tuple[Any, Any]:
    """The network, and its like with ordered features in front of the last layer."""
    if "image" in splits.train:
        make = functools.partial(models.ConvNet, width=16, growth=2, stride=2, dtype=precision)
        model, encoder = make(splits.num_classes), make(hidden[-1])
    else:
        *below, features = hidden
        make = functools.partial(models.MLP, dtype=precision)
        model = make(splits.num_classes, tuple(hidden))
        encoder = make(features, tuple(below))
    return model, models.NestedDropout(splits.num_classes, encoder)
