"""How labels of several annotators combine, and what a classifier gains from each way."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.label_quality._shared import (
    annotator_rows,
    classifier_figure,
    classifier_rows,
    item_rows,
    scores_of,
)
from lnl_jax import comparison, data, label_models
from lnl_jax.runner import Artifact, Count, NotNegative, Positive, Precision, Range, Seed, Seeds
from lnl_jax.runner.arguments import StudyError, Whole, close_names, refused, study
from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.stages import stage

GENERATED = "generated"
# name -> file in --data_dir
FILES = {name: f"crowd_{name}" for name in ("rte", "bluebird", "dog", "face4", "product")}
FILES |= {"labelme": "labelme_crowd", "sentiment": "sentiment_crowd"}
FOLDS = 5
SMALLEST = 1e-12  # of probabilities in scores: a hard label may be wrong
VOTES: dict[str, Callable[[label_models.Annotations], Any]] = {
    "majority": label_models.majority_vote,
    "normalised votes": label_models.normalized_votes,
    "softmax of votes": label_models.softmax_votes,
    "WaWA": label_models.wawa,
    "zero-based skill": label_models.zero_based_skill,
    "Dawid-Skene": label_models.dawid_skene,
    "GLAD": label_models.glad,
}


class Columns(NamedTuple):
    """The columns of a CSV file, by name; `truth` where the true class of an item is known."""

    item: str = "item"
    annotator: str = "annotator"
    label: str = "label"
    truth: str | None = None


@study
def crowd_labels(
    *,
    annotations: str = GENERATED,
    columns: Columns = Columns(),
    features: str | None = None,
    restarts: Count = 10,
    certainty: Annotated[float, Range(0.5, 1)] = 0.9,
    hidden: Whole = 64,
    epochs: Count = 30,
    batch_size: Count = 64,
    learning_rate: Positive = 0.05,
    held_out: Annotated[float, Range(above=0, below=1)] = 0.2,
    shift: NotNegative = 1.0,
    seeds: Seeds = 3,
    precision: Precision = jnp.float32,
    seed: Seed = 0,
    data_dir: str | None = None,
) -> Iterator[dict[str, Any] | Artifact]:
    """Votes, Dawid-Skene, GLAD, MACE, their average and CROWDLAB, and classifiers trained on each.

    The labels that annotators gave become a distribution for each item, in ten ways. Where the
    truth is known, each is scored: accuracy, NLL, Brier score (over all classes, twice that of one
    of two), ECE; and the items whose best class is likely enough beside the second are accepted,
    the rest is for review. Where items have features, a network is trained on each kind of label,
    those of the annotators counting one by one, and scored on items held out, on other examples of
    the set, and on shifted features: Wright and Augenstein, "Aggregating Soft Labels from Crowd
    Annotations Improves Uncertainty Estimation Under Distribution Shift" (2022), ask which labels
    serve there. Where the truth is not known, networks are scored on the labels that were given.

    On generated annotators of the digits, on a file of one's own, on DIR/crowd_rte.npz:
        python experiments/run.py --exp crowd_labels
        python experiments/run.py --exp crowd_labels --annotations labels.csv
        python experiments/run.py --exp crowd_labels --annotations rte --data_dir DIR

    Time: seconds without features, a minute or a few with them, on 2 CPU cores.

    Result: of what needs no features the average has the lowest NLL on all sets, 0.225 on RTE;
    docs/results/crowd_labels.

    Args:
        annotations: a CSV file with a line for each label; rte, bluebird, dog, face4, product,
            labelme or sentiment, from --data_dir; or generated annotators.
        columns: of the file.
        features: a CSV file with a line for each item, its name and numbers.
        restarts: of MACE.
        certainty: from which probability of winning against the second class the best is accepted.
        hidden: width of the network's layer; 0 for a linear one.
        epochs: passes over the items.
        batch_size: items per step.
        learning_rate: of SGD with momentum 0.9; it falls tenfold twice.
        held_out: share of the items that the networks are not trained on.
        shift: standard deviation of the noise on shifted features, in those of the features.
        seeds: trainings of each network, at least 2.
        precision: in which the networks compute: bfloat16 is for accelerators.
        seed: of the split and of what is drawn.
        data_dir: the folder of the named sets.

    Yields:
        A row per way of combining, and per epoch; the tables `results` and `classifiers`,
        `labels.csv` with the class of each item by the average, those to review first,
        `annotators.csv`, the figure `classifiers` and the arrays `distributions`.
    """
    crowd = _crowd(annotations, columns, features, data_dir, seed)
    with refused(annotations):
        given = label_models.read_annotations(crowd.annotations, len(crowd.class_names))
    network = {"hidden": (hidden,) if hidden else (), "dtype": precision}
    found = yield from stage(
        "label models", _label_models, given, crowd.x, restarts, seed, **network
    )
    rows = []
    for name, one in found.items():
        rows.append({"labels": name} | _judged(one["probabilities"], crowd.truth, certainty))
        yield {"method": name} | {key: rows[-1][key] for key in rows[-1] if key != "labels"}
    distributions = {name: one["probabilities"] for name, one in found.items()}
    yield Artifact("results", rows)
    yield Artifact("labels.csv", csv_bytes(item_rows(crowd, distributions["average"], certainty)))
    yield Artifact("annotators.csv", csv_bytes(annotator_rows(crowd, found)))
    yield Artifact("distributions", {"annotations": crowd.annotations} | distributions)
    if crowd.x is None:
        return
    held, tests = _tests(crowd, held_out, shift, seed)
    rest = _without(given, held)
    # Of the other items alone: CROWDLAB's classifier must not have seen those held out.
    found = yield from stage(
        "labels to train on", _label_models, rest, crowd.x[~held], restarts, seed, **network
    )
    targets = {name: one["probabilities"] for name, one in found.items()}
    if crowd.truth is not None:
        targets["true labels"] = np.eye(given.num_classes)[crowd.truth[~held]]
    logits = yield from stage(
        "classifiers",
        comparison.train_on_distributions,
        crowd.x[~held],
        targets,
        {name: test["x"] for name, test in tests.items()},
        seeds=range(seed, seed + seeds),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        **network,
    )
    scores = {
        name: [[scores_of(run, test["label"]) for run in kind] for kind in logits[name]]
        for name, test in tests.items()
    }
    lines = classifier_rows(scores, [*targets], known=crowd.truth is not None)
    yield Artifact("classifiers", lines)
    yield Artifact("classifiers", classifier_figure(scores, [*targets]))


def _crowd(
    annotations: str, columns: Columns, features: str | None, data_dir: str | None, seed: int
) -> data.Crowd:
    if annotations == GENERATED:
        return data.generated_crowd(np.random.default_rng(seed))
    if annotations in FILES:
        if data_dir is None:
            raise StudyError(f"{annotations} is read from {FILES[annotations]}.npz: give data_dir.")
        with refused():
            return data.crowd_npz(data_dir, name=FILES[annotations])
    if not Path(annotations).expanduser().is_file():
        known = close_names(annotations, [GENERATED, *FILES])
        raise StudyError(f"annotations must be a CSV file or a set; no {annotations}: {known}")
    with refused():
        return data.crowd_csv(annotations, **columns._asdict(), features=features)


def _label_models(
    given: label_models.Annotations,
    x: np.ndarray | None,
    restarts: int,
    seed: int,
    **network: Any,
) -> dict[str, dict[str, np.ndarray]]:
    """By name the distributions and the quality of annotators."""
    rng = np.random.default_rng(seed)
    starts = label_models.mace_starts(
        given.num_annotators, given.num_classes, rng, restarts=restarts
    )
    mace = functools.partial(label_models.mace, starts=starts)
    found = {name: vote(given) for name, vote in (VOTES | {"MACE": mace}).items()}
    soft = [one.probabilities for name, one in found.items() if name != "majority"]
    average = label_models.average_distribution(soft)
    quality = average[given.item, given.label]
    of_all = np.bincount(given.annotator, quality) / np.bincount(given.annotator)
    found["average"] = label_models.Consensus(average, of_all, 1)
    majority = found["majority"].probabilities.argmax(1)
    counts = np.bincount(majority, minlength=given.num_classes)
    # Folds have each class; a class that no vote won is in none.
    several = len(given.item) > given.num_items
    if x is not None and several and counts[counts > 0].min() >= FOLDS:
        beliefs = comparison.cross_validated_probabilities(
            x, majority, num_classes=given.num_classes, folds=FOLDS, seed=seed, **network
        )
        found["CROWDLAB"] = label_models.crowdlab(given, beliefs)
    return {
        name: {"probabilities": one.probabilities, "quality": one.annotator_quality}
        for name, one in found.items()
    }


def _without(given: label_models.Annotations, held: np.ndarray) -> label_models.Annotations:
    """The labels of the other items, these and their annotators numbered anew."""
    rows = ~held[given.item]
    item, annotator = (np.unique(one[rows], return_inverse=True)[1] for one in given[:2])
    triples = np.stack([item, annotator, given.label[rows]], 1)
    return label_models.read_annotations(triples, given.num_classes)


def _tests(
    crowd: data.Crowd, held_out: float, shift: float, seed: int
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """Which items are held out, and what is scored on by name: these, others, and these shifted."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(crowd.x), bool)
    held[rng.permutation(len(held))[: min(max(1, round(held_out * len(held))), len(held) - 1)]] = 1
    if crowd.truth is None:
        item, _, label = crowd.annotations[held[crowd.annotations[:, 0]]].T
        own = {"x": crowd.x[item], "label": label}
    else:
        own = {"x": crowd.x[held], "label": crowd.truth[held]}
    noise = rng.normal(size=own["x"].shape) * crowd.x[~held].std(0)
    noisy = own | {"x": own["x"] + np.float32(shift * noise)}
    return held, {"held out": own} | crowd.tests | {"held out, noisy": noisy}


def _judged(
    probabilities: np.ndarray, truth: np.ndarray | None, certainty: float
) -> dict[str, float]:
    """How good the labels are, where the truth is known, and how many are certain enough."""
    choice = label_models.accept_or_review(probabilities, certainty)
    accepted = {"accepted %": 100 * float(choice.accepted.mean())}
    if truth is None:
        return accepted
    if choice.accepted.any():
        right = (choice.best == truth)[choice.accepted]
        accepted["of these right %"] = 100 * float(right.mean())
    return scores_of(np.log(np.maximum(probabilities, SMALLEST)), truth) | accepted
