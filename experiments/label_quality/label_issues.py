"""Which labels are wrong, and what training gains from knowing it: on your own data."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np

from lnl_jax import data, label_models
from lnl_jax import noise as label_noise
from lnl_jax.comparison.cross_validation import cross_validated_probabilities, read_inputs
from lnl_jax.comparison.issue_gains import PARTS, compare_trainings
from lnl_jax.comparison.issues import (
    class_rows,
    detector_rows,
    issue_rows,
    issues_figure,
    matrix_rows,
    neighbour_rows,
)
from lnl_jax.comparison.tower_features import tower_features
from lnl_jax.comparison.whole_sets import WHOLE_SETS, digits
from lnl_jax.runner import (
    Artifact,
    Count,
    Folds,
    Positive,
    Precision,
    Repetitions,
    Seed,
    Share,
    StudyError,
    Whole,
    refused,
    stage,
    study,
)
from lnl_jax.runner.files import csv_bytes


def symmetric(num_classes: int, rate: float) -> np.ndarray:
    """A fraction of the labels becomes another class, each as likely."""
    return label_noise.symmetric(num_classes, rate)


def pairflip(num_classes: int, rate: float) -> np.ndarray:
    """A fraction of the labels becomes the next class."""
    return label_noise.pairflip(num_classes, rate)


def none(num_classes: int, rate: float) -> np.ndarray:
    """The labels stay as they were given."""
    del rate
    return np.eye(num_classes)


NOISES: dict[str, Callable | None] = {"default": None, "none": none}
NOISES |= {"symmetric": symmetric, "pairflip": pairflip}


@study
def label_issues(
    *,
    dataset: Annotated[Callable, WHOLE_SETS] = digits,
    labels: str | None = None,
    noise: Annotated[Callable | None, NOISES] = None,
    noise_rate: Share = 0.3,
    width: Whole = 0,
    folds: Folds = 5,
    repeats: Repetitions = 1,
    epochs: Count = 30,
    learning_rates: tuple[Positive, ...] = (0.1, 0.01),
    num_neighbours: Count = 10,
    seeds: Whole = 3,
    seed: Seed = 0,
    precision: Precision = jnp.float32,
    tower: str | None = None,
    pixels: Count = 224,
    features: str | None = None,
    data_dir: str | None = None,
) -> Iterator[dict[str, Any] | Artifact]:
    """Ranks the labels of a data set by how likely they are wrong, and trains without the worst.

    Every example is scored by a network that was trained on the other folds, and by its nearest
    neighbours: self-confidence, normalised margin, confidence-weighted entropy and the filter of
    confident learning from the first, SimiFeat and exact KNN-Shapley values from the second.
    `issues.csv` has a line for each example, the most suspicious first. Then the same network is
    trained on three fifths of the rows with cross-entropy, with cross-entropy without the flagged
    rows, and with robust losses; learning rate and hyperparameter are those that agree best with
    the given labels of another fifth. All are judged by the last fifth: by its given labels and,
    where they are known, by the true ones.

    Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
    (JAIR 2021); Zhu et al., "Detecting Corrupted Labels Without Training a Model to Predict" (ICML
    2022); Jia et al., "Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms"
    (VLDB 2019). On digits with 30% of the labels flipped, on a table of your own, and on images, of
    which a pretrained tower sees far more than a network on pixels does:
        python experiments/run.py --exp label_issues
        python experiments/run.py --exp label_issues --dataset csv --dataset.file labels.csv
        python experiments/run.py --exp label_issues --dataset cifar10 --labels worse \
            --data_dir DIR --tower efficientnet-lite0.safetensors --features features.npz

    Time: under a minute on 2 CPU cores, for thousands of rows of some dozen columns.

    Result: on digits an area of 99.6 for self-confidence, 99.9 for KNN-Shapley, and 2 points gained
    without the flagged rows, made by commit 1ffd764; on labels that people gave to CIFAR-10, 66 to
    69 in pixels and 83 to 94 (SimiFeat) in features of a tower; docs/results/label_issues.

    Args:
        dataset: digits, or your own: a CSV file, a folder of images, an npz or a prepared set.
        labels: other labels to judge, the column label_NAME of the set, such as worse of cifar10;
            none judges its own. Where they are other ones, the set's own are the true ones.
        noise: makes labels false; default is symmetric for digits and none for all else.
        noise_rate: how many.
        width: of a hidden layer; 0 is a linear head.
        folds: parts of which each is scored by a network trained on the others.
        repeats: how often all examples are scored, with other folds each time.
        epochs: passes over the data.
        learning_rates: to choose from.
        num_neighbours: that judge a label.
        seeds: how often the trainings are compared; 0 leaves them out.
        seed: of noise, folds and trainings.
        precision: in which the networks compute: bfloat16 is for accelerators.
        tower: a file of EfficientNet-Lite0, for images: its features are judged in their place.
        pixels: rows and columns that the tower sees.
        features: an .npz file that keeps what the tower makes of the images; none keeps nothing.
        data_dir: the folder of the data set.

    Yields:
        A row per detector and per way of training; `issues.csv`; the tables `detectors`,
        `noise_matrix`, `classes`, `gains`, `neighbours` of rows or the figure `suspicious`, and
        `skipped` where something is left out.
    """
    with refused():
        whole = dataset(data_dir)
    whole = _with_noise(_with_labels(whole, labels), noise, noise_rate, dataset is digits, seed)
    given, truth = whole.columns["label"], whole.columns.get("clean_label")
    inputs = whole.columns["image" if "image" in whole.columns else "x"]
    _check_classes(whole, folds, seeds)
    if num_neighbours >= len(given):
        raise StudyError(f"num_neighbours must be less than the {len(given)} examples.")
    if tower is not None:
        inputs = _features(inputs, tower, pixels, features)
    with refused():
        columns = read_inputs(inputs)
    network = {"hidden": (width,) if width else (), "num_classes": whole.num_classes}
    network |= {"epochs": epochs, "learning_rates": learning_rates, "dtype": precision}
    scores = yield from stage(
        "scores", _scores, inputs, given, folds, repeats, seed, num_neighbours, network
    )
    issues = label_models.find_label_issues(scores["probabilities"], given)
    table = detector_rows(scores["suspicion"], given, issues.flags, truth)
    for row in table:
        yield {"method": row["detector"], "flagged": int(issues.flags.sum())}
    if whole.skipped:
        yield Artifact("skipped", [{"left out": line} for line in whole.skipped])
    yield Artifact("issues.csv", csv_bytes(issue_rows(whole, issues, scores["suspicion"])))
    yield Artifact("detectors", table)
    yield Artifact("noise_matrix", matrix_rows(whole, issues))
    yield Artifact("classes", class_rows(whole, issues))
    if "image" in whole.columns:
        yield Artifact("suspicious", issues_figure(whole, issues))
    else:
        yield Artifact("neighbours", neighbour_rows(whole, issues, columns))
    if seeds:
        rows = columns, given, truth
        gains = yield from stage("gains", compare_trainings, *rows, folds, seeds, **network)
        yield Artifact("gains", gains)


def _features(images: np.ndarray, tower: str, pixels: int, cache: str | None) -> np.ndarray:
    """What the tower makes of the images, in their place."""
    if images.ndim != 4 or images.shape[-1] != 3:
        raise StudyError(
            f"tower takes colour images [N, H, W, 3], got data of shape {images.shape}: leave it "
            "out, or give a set of images."
        )
    with refused():
        return tower_features(images, tower, pixels=pixels, cache=cache)


def _with_labels(whole: data.Labelled, labels: str | None) -> data.Labelled:
    """Other labels of the set as the given ones, its own as the true ones."""
    if labels is None:
        return whole
    there = [name[6:] for name in whole.columns if name.startswith("label_")]
    if labels not in there:
        raise StudyError(f"labels must be one of {', '.join(there) or 'none'}, got {labels}.")
    own = {"label": whole.columns[f"label_{labels}"], "clean_label": whole.columns["label"]}
    return whole._replace(columns=whole.columns | own)


def _with_noise(
    whole: data.Labelled, noise: Callable | None, rate: float, is_digits: bool, seed: int
) -> data.Labelled:
    """What is false by the noise is known; of labels that were given as they are, the rest."""
    if noise is None:
        noise = symmetric if is_digits else none
    if noise is none:
        columns = dict(whole.columns)
        # Labels that are thought to be right have nothing that could be found and counted.
        if np.array_equal(columns.get("clean_label"), columns["label"]):
            del columns["clean_label"]
        return whole._replace(columns=columns)
    labels = whole.columns["label"]
    matrix = noise(whole.num_classes, rate)
    noisy = label_noise.corrupt(labels, matrix, np.random.default_rng(seed)).labels
    return whole._replace(columns=whole.columns | {"label": noisy, "clean_label": labels})


def _check_classes(whole: data.Labelled, folds: int, seeds: int) -> None:
    counts = np.bincount(whole.columns["label"], minlength=whole.num_classes)
    least = max(folds, PARTS if seeds else 2)
    few = np.flatnonzero((counts < least) & (counts > 0))
    if few.size:
        first = f"{whole.class_names[few[0]]} with {counts[few[0]]}"
        ways = {"leave it out": True, "use fewer folds": folds > 2, "set seeds to 0": bool(seeds)}
        ways["judge labels of fewer classes"] = 2 * few.size > whole.num_classes
        possible = ", or ".join(way for way, is_one in ways.items() if is_one)
        raise StudyError(
            f"folds: {least} examples of a class are needed for {folds} folds"
            f"{f' and {PARTS} parts of seeds' * bool(seeds)}; {few.size} of {whole.num_classes} "
            f"classes have fewer, the first is {first}: {possible}."
        )


def _scores(inputs, given, folds, repeats, seed, num_neighbours, network) -> dict[str, Any]:
    """Probabilities out of fold, and suspicion by method: larger is more suspicious."""
    probabilities = cross_validated_probabilities(
        inputs, given, folds=folds, repeats=repeats, seed=seed, **network
    )
    features = read_inputs(inputs)
    by_network = {
        "self_confidence": label_models.self_confidence,
        "normalized_margin": label_models.normalized_margin,
        "confidence_weighted_entropy": label_models.confidence_weighted_entropy,
    }
    suspicion = {name: 1 - score(probabilities, given) for name, score in by_network.items()}
    votes = label_models.knn_label_scores(
        features,
        given,
        # SimiFeat's authors count the row itself.
        num_neighbours=max(num_neighbours - 1, 1),
        num_classes=network["num_classes"],
    )
    values = label_models.knn_shapley_of_others(features, given, num_neighbours=num_neighbours)
    suspicion |= {"simifeat": votes.scores, "knn_shapley": -values}
    return {"probabilities": probabilities, "suspicion": suspicion}
