"""Heads on frozen features that all data sets share: parts, methods, neighbours, out of fold.

The features are in memory once, ``shared["x"]``, training rows before test rows; a data set is a
draw of noisy labels with a split of its own, whose parts hold the numbers of their rows.
"""

import functools
import itertools
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, label_models, losses, metrics, models, train
from lnl_jax.comparison.catalogue import CATALOGUE, LossEntry
from lnl_jax.comparison.cross_validation import (
    HeldOut,
    of_shared_rows,
    read_inputs,
    score_held_out,
)
from lnl_jax.comparison.methods import BASELINE, METRICS, measure, robust_loss, what_is_known
from lnl_jax.comparison.network_pairs import co_teaching
from lnl_jax.comparison.networks import Network, initial_variables, tabular_in_lanes
from lnl_jax.comparison.noisy_methods import NoisyMethod, surprise
from lnl_jax.comparison.protocol import ADAPTED
from lnl_jax.comparison.runs import make_trainer, stack_settings
from lnl_jax.comparison.search import search
from lnl_jax.comparison.statistics import grid
from lnl_jax.data.splits import stack
from lnl_jax.runner.outputs import Checkpoint, Resume, Row

HEAD_METRICS = (*METRICS, "calibration_error")
# Cross-entropy, its weight decay searched too.
REGULARIZED = "cross_entropy_weight_decay"
# The same on labels that the other folds predicted.
RELABELLED = "relabelled_cross_entropy"
CO_TEACHING, NEIGHBOURS = "co_teaching", "weighted_knn"
MORE_HEADS = (CO_TEACHING, RELABELLED, NEIGHBOURS)
# So many training rows say how many false labels are memorised.
PROBED = 1_000
# The most suspicious labels, of which it is counted how many are false.
TOP = 100


class HeadPlan(NamedTuple):
    """How heads are trained, and what validation chooses from.

    Attributes:
        epochs: passes over the training part.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decays: added to the gradient, to choose from; plain cross-entropy has none.
        temperatures: of LDR-KL and ALDR-KL, to choose from.
        hidden: widths of hidden layers; none is a linear head.
    """

    epochs: int
    batch_size: int
    learning_rates: Sequence[float]
    weight_decays: Sequence[float]
    temperatures: Sequence[float]
    hidden: Sequence[int] = ()

    def entry(self, name: str) -> LossEntry:
        """A loss of the catalogue, with the settings that a head chooses from."""
        entry = CATALOGUE[name]
        if name not in ADAPTED:
            return entry
        # A temperature that suits the scores of one suits the other's.
        normalize = losses.softplus_mean_normalize
        settings = grid(temperature=self.temperatures)
        return entry._replace(grid=settings, normalize=normalize)


def principal_features(features: np.ndarray, size: int, width: int | None) -> np.ndarray:
    """Standardised features on their principal axes, which keep their proportions.

    Args:
        features: training rows before test rows, ``[N + T, D]``.
        size: N, the rows that means, deviations and axes are taken from.
        width: how many axes; None, or no fewer than there are, keeps the columns.

    Returns:
        float32, ``[N + T, min(width, D)]``, columns of mean 0; their mean square is 1 all together.
    """
    columns = read_inputs(features, like=features[:size])
    if width is None or width >= min(size, columns.shape[1]):
        return columns
    centred = columns - columns[:size].mean(0)
    _, axes = np.linalg.eigh(centred[:size].T.astype(np.float64) @ centred[:size])
    turned = centred @ np.float32(axes[:, ::-1][:, :width])
    return turned / np.sqrt(np.square(turned[:size]).mean())


def head_data(
    labels: np.ndarray, clean: np.ndarray | None, num_classes: int, share: float, seed: int
) -> dict[str, Any]:
    """A data set: a draw of noisy labels, its rows split at random.

    Args:
        labels: noisy ones, ``[N]``.
        clean: true ones, ``[N]``; None where nobody knows them.
        num_classes: K.
        share: of the rows that validate.
        seed: of the split, which is the same for all noises.

    Returns:
        A dict with ``train``, ``validation``, ``probe`` of the training part, ``seed``, and
        ``known``, which says that no label is false.
    """
    rows = np.arange(len(labels), dtype=np.int32)
    columns = {"row": rows, "index": rows, "label": np.int32(labels)}
    if clean is not None:
        columns["clean_label"] = np.int32(clean)
    order = np.random.default_rng(seed).permutation(rows)
    held = max(1, round(share * len(rows)))
    parts = {"validation": order[:held], "train": order[held:]}
    parts["probe"] = parts["train"][:PROBED]
    found = {
        name: {column: values[chosen] for column, values in columns.items()}
        for name, chosen in parts.items()
    }
    known = what_is_known(np.eye(num_classes), found["train"]["label"])
    return found | {"known": known, "seed": seed}


def out_of_fold(
    x: np.ndarray,
    data_sets: Sequence[Mapping[str, Any]],
    loss: str,
    num_classes: int,
    folds: int,
    plan: HeadPlan,
) -> np.ndarray:
    """Probabilities of the training rows of each data set by heads that have not seen them.

    Args:
        x: features, ``[N + T, P]``.
        data_sets: D of `head_data`.
        loss: its name in `CATALOGUE`; of LDR-KL and ALDR-KL the middle temperature. The weight
            decay is the one whose predictions agree best with the labels, for each data set.
        num_classes: K.
        folds: in how many parts.
        plan: how the heads are trained.

    Returns:
        ``[D, n, K]``, in the order of the training parts.
    """
    parts, labels, temperatures = [], [], plan.temperatures
    entry = plan._replace(temperatures=[temperatures[len(temperatures) // 2]]).entry(loss)
    for seed, each in enumerate(data_sets):
        own, validation = each["train"]["row"], each["validation"]
        whole = np.zeros(len(own) + len(validation["row"]), np.int32)
        whole[own], whole[validation["row"]] = each["train"]["label"], validation["label"]
        number = data.fold_numbers(whole[own], folds, np.random.default_rng(seed))
        parts += [(own[number != fold], own[number == fold]) for fold in range(folds)]
        labels += [whole] * folds
    held = score_held_out(
        x[: len(labels[0])],
        np.stack(labels),
        parts,
        [*range(folds)] * len(data_sets),
        loss=entry,
        num_classes=num_classes,
        hidden=plan.hidden,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        learning_rates=plan.learning_rates,
        weight_decays=plan.weight_decays,
    )
    found = []
    for at, each in enumerate(data_sets):
        own = slice(at * folds, (at + 1) * folds)
        one = HeldOut(held.rows[own], held.probabilities[own], held.settings)
        found.append(one.whole(labels[at * folds])[each["train"]["row"]])
    return np.stack(found)


def detection_rows(
    data_sets: Sequence[Mapping[str, Any]],
    unseen: Mapping[str, np.ndarray],
    noises: Sequence[str],
) -> list[Row]:
    """How well probabilities out of fold tell which labels are false.

    Args:
        data_sets: of `head_data`, the seeds of the first noise before those of the second.
        unseen: by the name of a loss, of `out_of_fold`, ``[D, n, K]``.
        noises: their names.

    Returns:
        A dict per noise with false labels in every part, score and loss: means over the seeds.
    """
    scores = {"self-confidence": label_models.self_confidence}
    scores |= {"normalised margin": label_models.normalized_margin}
    seeds = len(data_sets) // len(noises)
    rows = []
    for at, noise in enumerate(noises):
        own = slice(at * seeds, (at + 1) * seeds)
        parts = [each["train"] for each in data_sets[own]]
        if any((part["label"] == part["clean_label"]).all() for part in parts):
            continue
        for (kind, score), name in itertools.product(scores.items(), unseen):
            found = [
                _found(part, score(probabilities, part["label"]))
                for part, probabilities in zip(parts, unseen[name][own], strict=True)
            ]
            titles = ("AUROC", "average precision", f"false of the first {TOP}")
            means = dict(zip(titles, np.mean(found, 0).tolist(), strict=True))
            rows.append({"noise": noise, "score": f"{kind}, {name}"} | means)
    return rows


def _found(part: Mapping[str, np.ndarray], fits: np.ndarray) -> tuple[float, float, float]:
    false, doubt = jnp.asarray(part["label"] != part["clean_label"]), -jnp.asarray(fits)
    first = np.asarray(false)[np.argsort(fits, kind="stable")[:TOP]].sum()
    area, precision = metrics.auroc(doubt, false), metrics.average_precision(doubt, false)
    return float(area), float(precision), float(first)


def linear_head(num_classes: int, hidden: Sequence[int] = ()) -> tuple[models.LaneMLP, Network]:
    """A head on shared features, and how it is called.

    Args:
        num_classes: K.
        hidden: widths of hidden layers; none is a linear head.

    Returns:
        The module, of ``[P, B]``, and the `Network`.
    """
    model = models.LaneMLP(num_classes=num_classes, hidden=tuple(hidden))
    return model, of_shared_rows(tabular_in_lanes(model))


def head_methods(
    names: Sequence[str], network: Network, plan: HeadPlan, size: int
) -> list[NoisyMethod]:
    """The methods that train a head, best-regularised cross-entropy first.

    Args:
        names: of `CATALOGUE` and `MORE_HEADS`.
        network: the head.
        plan: how it is trained.
        size: of the training part.

    Returns:
        Those that are trained, both kinds of cross-entropy always among them.
    """
    steps = -(-size // plan.batch_size) * plan.epochs
    make = functools.partial(
        robust_loss, learning_rates=plan.learning_rates, network=network, total_steps=steps
    )
    decays = {"weight_decays": plan.weight_decays}
    plain = make(CATALOGUE[BASELINE])
    regularized = make(CATALOGUE[BASELINE], **decays)
    found = [regularized._replace(name=REGULARIZED), plain]
    found += [
        make(plan.entry(name), **decays)._replace(name=name)
        for name in dict.fromkeys(names)
        if name in CATALOGUE and name != BASELINE
    ]
    if RELABELLED in names:
        found.append(regularized._replace(name=RELABELLED))
    found = [NoisyMethod(each, network, functools.partial(surprise, network)) for each in found]
    if CO_TEACHING in names:
        found.append(co_teaching(plan.learning_rates, network=network, total_steps=steps))
    return found


def train_heads(
    x: np.ndarray,
    test: Mapping[str, np.ndarray],
    data_sets: Sequence[Mapping[str, Any]],
    methods: Sequence[NoisyMethod],
    model: models.LaneMLP,
    plan: HeadPlan,
    relabelled: np.ndarray | None = None,
    *,
    resume: Resume = Resume(),
) -> Generator[Row | Checkpoint, None, list[np.ndarray]]:
    """Trains all methods with all settings on all data sets in lockstep.

    Args:
        x: features, ``[N + T, P]``.
        test: ``row`` and ``label``.
        data_sets: D of `head_data`.
        methods: of `head_methods`.
        model: the head.
        plan: how it is trained.
        relabelled: other labels of the training parts, for `RELABELLED`, ``[D, n]``.
        resume: where an interrupted run goes on.

    Yields:
        As `search`; its rows are of the setting that is best over all data sets together.

    Returns:
        The history of each method, ``[HEAD_METRICS, epochs, D, S]``.
    """
    seeds = [each["seed"] for each in data_sets]
    params = initial_variables(model, jnp.zeros((x.shape[1], 1)), seeds)
    parts = stack(data_sets)
    shared = {"shared": {"x": x}, "test": dict(test)}
    size = parts["train"]["label"].shape[1]
    schedule = train.staircase_schedule(-(-size // plan.batch_size) * plan.epochs)
    all_runs = []
    for noisy in methods:
        own = parts | {"params": noisy.prepare(params)}
        if noisy.method.name == RELABELLED:
            own["train"] = own["train"] | {"label": np.int32(relabelled)}
        run = functools.partial(measure_head, noisy.network)
        trainer = make_trainer(noisy.method, schedule, run)
        settings = stack_settings(noisy.method.settings)
        all_runs.append(train.in_lanes(trainer, settings, own, shared=shared))
    outcome = yield from search(
        [noisy.method for noisy in methods],
        all_runs,
        data.epoch_plans(size, plan.batch_size, seeds),
        epochs=plan.epochs,
        resume=resume,
        metrics=HEAD_METRICS,
    )
    return list(outcome.history)


def measure_head(network: Network, setting, data_set, state) -> dict[str, jax.Array]:
    """All of `HEAD_METRICS` but the loss, for one run of a head: as `measure`."""
    scores = network.scores(state.params, state.extra[1], data_set["known"], data_set["test"])
    bins = metrics.calibration_bins(scores, data_set["test"]["label"])
    found = measure(network, setting, data_set, state)
    return found | {"calibration_error": metrics.expected_calibration_error(bins)}
