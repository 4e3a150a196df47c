"""Losses on features of a frozen tower, whose labels people or a matrix made false."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np

from lnl_jax import data, label_models
from lnl_jax.comparison.catalogue import LOSSES
from lnl_jax.comparison.feature_heads import (
    HEAD_METRICS,
    MORE_HEADS,
    NEIGHBOURS,
    HeadPlan,
    detection_rows,
    head_data,
    head_methods,
    linear_head,
    out_of_fold,
    principal_features,
    train_heads,
)
from lnl_jax.comparison.feature_neighbours import neighbour_values
from lnl_jax.comparison.leaderboard import board_markdown, leaderboard
from lnl_jax.comparison.named_noises import noisy_labels
from lnl_jax.comparison.outcome import Outcome, results_table, without_unknown
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.comparison.runs import Method
from lnl_jax.comparison.table_sets import digits
from lnl_jax.comparison.tower_features import read_features
from lnl_jax.runner import (
    Artifact,
    Count,
    Folds,
    NotNegative,
    Positive,
    PositiveShare,
    Seeds,
    Whole,
    refused,
    stage,
    study,
)
from lnl_jax.runner.arguments import check_batch_size, check_names
from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.outputs import Row

COMPARED = ("generalized_cross_entropy", "symmetric_cross_entropy", "ldr_kl", "aldr_kl")
COMPARED += ("nce_agce", "forward_correction", "elr_step", "sop_step", *MORE_HEADS)
# Whose heads out of fold find false labels; the last one's relabel, and estimate the matrix.
DETECTORS = ("cross_entropy", "ldr_kl")
SETS: dict[str, Callable] = {"digits": digits, "cifar10": data.cifar10, "cifar100": data.cifar100}
SETS |= OWN_SETS
COLUMNS = {"accuracy %": "accuracy", "nll": "nll", "ECE %": "calibration_error"}
COLUMNS |= {"memorized %": "memorized"}
GIVEN = {"accuracy %": "agrees with given labels %"}


@study
def frozen_features(
    *,
    dataset: Annotated[Callable, SETS] = digits,
    noises: tuple[str, ...] = ("none", "symmetric_60", "pairflip_40"),
    losses: tuple[str, ...] = COMPARED,
    width: Whole = 256,
    hidden: Whole = 0,
    seeds: Seeds = 3,
    epochs: Count = 20,
    batch_size: Count = 256,
    learning_rates: tuple[Positive, ...] = (0.1,),
    weight_decays: tuple[NotNegative, ...] = (1e-3, 1e-2, 1e-1, 3e-1),
    temperatures: tuple[Positive, ...] = (1.0, 10.0, 50.0),
    validation: PositiveShare = 0.15,
    folds: Folds = 5,
    fold_epochs: Count = 10,
    tower: str | None = None,
    pixels: Count = 224,
    features: str | None = None,
    data_dir: str | None = None,
) -> Iterator[dict[str, Any] | Artifact]:
    """Robust losses and cross-entropy at its best on frozen features, with noisy labels.

    A linear head is trained by SGD with momentum 0.9 on features that stay as they are: columns of
    your own, or what a pretrained tower makes of images, standardised and on their first principal
    axes. Cross-entropy is there twice, without weight decay and with the best one, from which gains
    are counted; losses have the same weight decays to choose from, and each its own settings. Heads
    out of fold say which labels are false, estimate the matrix of the forward correction, and
    relabel the training part for `relabelled_cross_entropy`. Settings are those with the best mean
    accuracy on noisy validation labels, for each noise; everything is paired by seed. All settings,
    noises and seeds of a method train at once, as one program.

    Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML 2023);
    Wei et al., "Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations"
    (ICLR 2022). On digits, and on CIFAR-10 with human labels, whose features are kept in a file:
        python experiments/run.py --exp frozen_features
        python experiments/run.py --exp frozen_features --dataset cifar10 --data_dir DIR \
            --tower efficientnet-lite0.safetensors --features features.npz \
            --noises none,worse,symmetric_60,asymmetric_40

    Time: 5.1 minutes of CPU time from kept features of 12,000 images and eight noises, one on
    digits.

    Result: LDR-KL is 2 to 6 points ahead of cross-entropy at its best weight decay on noisy labels
    of CIFAR-10, not on human ones of CIFAR-100; docs/results/frozen_features.

    Args:
        dataset: digits, cifar10, cifar100, or your own: csv, folder, npz, tfds.
        noises: none, symmetric_NN, pairflip_NN or asymmetric_NN (CIFAR-10's classes that look
            alike) for NN percent, or other labels of the set, label_NAME, by which its own are
            taken for the true ones.
        losses: what is compared; both kinds of cross-entropy always are. Without a name, every loss
            of the catalogue.
        width: principal axes; 0 keeps all columns.
        hidden: width of a hidden layer; 0 is a linear head.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training part.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decays: added to the gradient, to choose from; plain cross-entropy has none.
        temperatures: of LDR-KL and ALDR-KL, to choose from; out of fold the middle one.
        validation: the share of the rows that validate.
        folds: parts of which each is scored by heads that were trained on the others.
        fold_epochs: passes of these heads over their part, at one of the weight decays.
        tower: a file of EfficientNet-Lite0, for images.
        pixels: rows and columns that the tower sees.
        features: an .npz file that keeps what the tower makes of the images; none keeps nothing.
        data_dir: the folder of the data set.

    Yields:
        A row per epoch and method, of the setting that is best over all noises; the tables
        `leaderboard` (also as Markdown), `results` with a line per noise and loss, `detection` of
        false labels, and the arrays `history`, a value per metric, epoch, data set and setting.
    """
    losses = losses or tuple(LOSSES)
    check_names("losses", losses, (*LOSSES, *MORE_HEADS))
    with refused():
        splits = dataset(data_dir)
        noisy = {
            name: [noisy_labels(splits, name, seed) for seed in range(seeds)] for name in noises
        }
        columns = read_features(splits, tower, pixels, features)
    size = len(splits.train["label"])
    x = principal_features(columns, size, width or None)
    clean = splits.train.get("clean_label", splits.train["label"])
    test = {"row": np.arange(size, len(x), dtype=np.int32), "label": splits.test["label"]}
    num_classes = splits.num_classes
    data_sets = [
        head_data(labels, clean, num_classes, validation, seed)
        for draws in noisy.values()
        for seed, labels in enumerate(draws)
    ]
    training = len(data_sets[0]["train"]["row"])
    check_batch_size(batch_size, training)
    layers = (hidden,) if hidden else ()
    plan = HeadPlan(epochs, batch_size, learning_rates, weight_decays, temperatures, layers)
    of_folds = plan._replace(epochs=fold_epochs)
    model, network = linear_head(num_classes, layers)
    heads = head_methods(losses, network, plan, training)
    unseen = yield from stage(
        "out_of_fold", _out_of_fold, x, data_sets, num_classes, folds, of_folds
    )
    for each, probabilities in zip(data_sets, unseen[DETECTORS[-1]], strict=True):
        issues = label_models.find_label_issues(probabilities, each["train"]["label"])
        each["known"]["matrix"] = np.float32(issues.noise_matrix)
    relabelled = unseen[DETECTORS[-1]].argmax(-1)
    history = yield from stage(
        "heads", train_heads, x, test, data_sets, heads, model, plan, relabelled
    )
    methods = [each.method for each in heads]
    if NEIGHBOURS in losses:
        method, values = neighbour_values(x, test, data_sets, num_classes)
        methods, history = [*methods, method], [*history, values]
    results = _results(methods, history, noises, seeds)
    # Labels that somebody gave are the truth only where there are others that are judged by them.
    unknown = splits.given and not any(f"label_{name}" in splits.train for name in noises)
    board = leaderboard(results, noises)
    named = [{(GIVEN if unknown else {}).get(k, k): v for k, v in row.items()} for row in results]
    yield Artifact("results.csv", csv_bytes(named))
    yield Artifact("leaderboard", board)
    yield Artifact("leaderboard.md", board_markdown(board).encode())
    if found := detection_rows(data_sets, unseen, noises):
        yield Artifact("detection", found)
    names = (method.name for method in methods)
    yield Artifact("history", dict(zip(names, history, strict=True)))


def _out_of_fold(x, data_sets, num_classes, folds, plan) -> dict[str, np.ndarray]:
    return {name: out_of_fold(x, data_sets, name, num_classes, folds, plan) for name in DETECTORS}


def _results(
    methods: Sequence[Method], history: Sequence[np.ndarray], noises: Sequence[str], seeds: int
) -> list[Row]:
    """A line per noise and method, each at the setting that its noisy validation labels choose."""
    rows = []
    for at, noise in enumerate(noises):
        own = [values[:, :, at * seeds : (at + 1) * seeds] for values in history]
        outcome = Outcome(methods, (), own, HEAD_METRICS)
        rows += [
            {"noise": noise, "loss": row.pop("method")} | row
            for row in results_table(outcome, COLUMNS)
        ]
    return without_unknown(rows)
