"""Training on noisy labels: losses with and without state, pairs of networks, learned weights."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.robust_losses._shared import noisy_digits, noisy_rows
from lnl_jax import data, models, train
from lnl_jax import noise as noises
from lnl_jax.comparison.learned_weights import storm
from lnl_jax.comparison.network_pairs import co_teaching, divide_mix
from lnl_jax.comparison.networks import initial_variables, tabular
from lnl_jax.comparison.noisy_methods import (
    NOISY_METRICS,
    NoisyMethod,
    measure_noisy,
    one_loss,
    refreshed,
)
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
from lnl_jax.comparison.selected_features import nested_dropout
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

# Losses of the catalogue; what they keep of an example is said in docs/noisy_label_methods.md.
OF_ONE_LOSS = (
    "cross_entropy",
    "generalized_cross_entropy",
    "ldr_kl",
    "aldr_kl",
    "elr_step",
    "sop_step",
)
MORE = ("co_teaching", "nested_dropout", "nested_dropout_co_teaching", "divide_mix", "storm")


def symmetric(num_classes: int, rate: float) -> np.ndarray:
    """A fraction of the labels is drawn again over all classes."""
    return noises.symmetric(num_classes, rate, include_self=True)


def none(num_classes: int, rate: float) -> np.ndarray:
    """The labels stay as they were given, whatever the rate, for those that are noisy already."""
    del rate
    return np.eye(num_classes)


NOISES: dict[str, Callable] = {"symmetric": symmetric, "pairflip": noises.pairflip, "none": none}


@study
def noisy_training(
    *,
    dataset: Annotated[Callable, TABLE_SETS] = digits,
    methods: tuple[str, ...] = (*OF_ONE_LOSS, *MORE),
    noise: Annotated[Callable, NOISES] = symmetric,
    noise_rate: Share = 0.6,
    seeds: Seeds = 5,
    epochs: Count = 50,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.03),
    weight_decay: NotNegative = 5e-3,
    hidden: tuple[Count, ...] = (64, 64),
    precision: Precision = jnp.float32,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """Losses, ELR, SOP, co-teaching, nested dropout, the core of DivideMix and STORM on one table.

    A tanh network is trained by SGD with momentum 0.9, the learning rate falling tenfold at a half
    and at three quarters. Learning rate and hyperparameters are those with the best mean accuracy
    on noisy validation labels; everything is paired by seed: split, noise, initialisation, order.
    Shown are accuracy on clean test labels, the share of false training labels that the network
    predicts, and how well each method's own suspicion finds them: the loss, for ELR the target, for
    SOP the noise terms, for DivideMix the mixture, for STORM the weight.

    Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels" (NeurIPS
    2020); Liu et al., "Robust Training under Label Noise by Over-parameterization" (ICML 2022); Han
    et al., "Co-teaching" (NeurIPS 2018); Chen et al., "Compressing Features for Learning with Noisy
    Labels" (2022); Li et al., "DivideMix" (ICLR 2020); Heck et al., STORM (AAAI 2025):
        python experiments/run.py --exp noisy_training

    Time: two minutes on 2 CPU cores.

    Result: ELR 95.3%, the core of DivideMix 94.9, ALDR-KL 94.5, cross-entropy 90.1;
    docs/results/noisy_training, made by commit 3cd3985.

    Args:
        dataset: of numbers, or your own: csv, npz, tfds; its labels are then given, not clean.
        methods: which ones; cross-entropy, the baseline, always is among them.
        noise: which labels become false; none for labels that are noisy already.
        noise_rate: fraction of the labels that are drawn again or flipped, from 0 to 1.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decay: added to the gradient, for all parameters.
        hidden: widths of the hidden layers, at least one; nested dropout orders the last of them.
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
        splits = dataset(data_dir)
        matrix = noise(splits.num_classes, noise_rate)
        make = noisy_digits if dataset is digits else functools.partial(noisy_rows, splits)
        data_sets = [make(matrix, seed) for seed in range(seeds)]
    for each in data_sets:
        # By which nested dropout chooses how many features count.
        each["known"] |= {"validation": each["validation"]}
    size = len(data_sets[0]["train"]["label"])
    check_batch_size(batch_size, size)
    steps_per_epoch = -(-size // batch_size)
    chosen = _methods(
        ("cross_entropy", *(name for name in methods if name != "cross_entropy")),
        learning_rates,
        num_classes=splits.num_classes,
        hidden=hidden,
        precision=precision,
        num_examples=size,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
    )
    schedule = train.staircase_schedule(steps_per_epoch * epochs)
    example = data_sets[0]["train"]["x"][:1]
    # Once on the device, not once for each method.
    parts = jax.tree.map(jnp.asarray, stack(data_sets) | {"seed": np.arange(seeds)})
    all_runs = []
    for noisy, model in chosen:
        params = noisy.prepare(initial_variables(model, example, range(seeds)))
        trainer = make_trainer(
            noisy.method,
            schedule,
            functools.partial(measure_noisy, noisy),
            weight_decay=weight_decay,
        )
        settings = stack_settings(noisy.method.settings)
        runs = train.in_lanes(trainer, settings, parts | {"params": params})
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
    title = f"{plain_name(dataset)}, {changed}; {seeds} seeds, mean ± std"
    columns, panels = (COLUMNS_GIVEN, PANELS_GIVEN) if splits.given else (COLUMNS, PANELS)
    columns = columns | {"suspicion AUROC %": "suspicion"}
    yield Artifact("results", results_table(outcome, columns))
    yield Artifact("curves", curves_figure(outcome, title, panels))
    yield Artifact("history", outcome.arrays)


def _methods(
    names: Sequence[str],
    learning_rates: Sequence[float],
    *,
    num_classes: int,
    hidden: Sequence[int],
    precision: Any,
    num_examples: int,
    steps_per_epoch: int,
    epochs: int,
) -> list[tuple[NoisyMethod, Any]]:
    """The methods, each with the module whose variables it starts from."""
    model = models.MLP(num_classes=num_classes, hidden=tuple(hidden), dtype=precision)
    *below, features = hidden
    ordered = models.NestedDropout(
        num_classes, models.MLP(num_classes=features, hidden=tuple(below), dtype=precision)
    )
    network, total_steps = tabular(model), steps_per_epoch * epochs
    make = {
        name: functools.partial(one_loss, name, network=network, total_steps=total_steps)
        for name in OF_ONE_LOSS
    }
    make |= {
        "co_teaching": functools.partial(co_teaching, network=network, total_steps=total_steps),
        "divide_mix": functools.partial(
            divide_mix,
            network=network,
            total_steps=total_steps,
            num_examples=num_examples,
            steps_per_epoch=steps_per_epoch,
        ),
        "storm": functools.partial(storm, network=network),
    }
    nested = functools.partial(nested_dropout, model=ordered, total_steps=total_steps)
    make |= {
        "nested_dropout": nested,
        "nested_dropout_co_teaching": functools.partial(nested, with_co_teaching=True),
    }
    return [
        (make[name](learning_rates), ordered if name.startswith("nested") else model)
        for name in names
    ]
