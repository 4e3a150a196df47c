"""iSogCLR on long-tailed digits: temperatures follow the frequency of what an image shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    Contrast,
    LearntTemperatures,
    check_contrast,
    check_losses,
    contrastive_trainer,
    contrasts,
    of_views,
    scent,
)
from lnl_jax import contrastive, data, evaluation, models, train
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.representations import balanced_probe_accuracy
from lnl_jax.comparison.statistics import mean_and_std, paired_gain
from lnl_jax.comparison.temperatures import (
    by_class_figure,
    class_counts,
    class_means,
    correlations,
    head_and_tail,
    histogram_figure,
    independence_table,
    neighbours_figure,
)
from lnl_jax.comparison.turns import train_in_turns
from lnl_jax.data import augment
from lnl_jax.data.splits import stack
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Precision,
    Seeds,
    check_batch_size,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

MODEL = models.ProjectedEncoder(
    models.MLP(num_classes=128, hidden=(256,), activation=nn.relu),
    models.MLP(num_classes=64, hidden=(128,), activation=nn.relu),
)
NUM_CLASSES, LARGEST_CLASS, TEST_PER_CLASS = 10, 120, 50
PROBE_L2, SIDE, EPOCHS_PER_ROW = 1e-3, 8, 10


@study
def isogclr_digits(
    *,
    imbalance: PositiveShare = 0.05,
    seeds: Seeds = 5,
    epochs: Count = 150,
    batch_size: Count = 64,
    learning_rate: Positive = 2e-3,
    temperature: Positive = 0.1,
    starts: tuple[Positive, ...] = (0.1, 0.05, 0.2, 1.0),
    gamma: PositiveShare = 0.8,
    log_step: NotNegative = 3.0,
    temperatures: LearntTemperatures = LearntTemperatures(step=0.05, momentum=0.9),
    precision: Precision = jnp.float32,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """SimCLR, SogCLR, SCENT and iSogCLR on long-tailed digits, and what temperatures become.

    Scikit-learn's handwritten digits. 50 images of each class are held out for the test; of the
    others, class k in a random order keeps ``120 * imbalance ** (k / 9)``. Views are random affine
    maps with changed contrast and noise; encoder and projector are small perceptrons, trained by
    Adam with a cosine schedule. Seeds train side by side and share split, order and initialisation
    between the methods, so that differences are paired. A linear probe on the encoder, fitted to
    the training images with classes of equal weight, is tested on the held-out ones.

    The claims are those of Qiu et al., "Not All Semantics are Created Equal: Contrastive
    Self-supervised Learning with Automatic Temperature Individualization" (ICML 2023), figures 1
    and 5: frequent semantics get a higher temperature, and the initial temperature does not matter.
    SCENT is SogCLR with the inner rate of Wei et al., "A Geometry-Aware Efficient Algorithm for
    Compositional Entropic Risk Minimization" (2026), which depends on the average itself.
    Expected here: a Spearman correlation of class size and mean temperature of at least 0.7 in the
    mean over seeds, and final mean temperatures within about 10% whatever the start. The accuracies
    of the methods do not differ by more than their deviation: digits are too easy for that:
        python experiments/run.py --exp isogclr_digits

    Time: 100 seconds of a CPU core. Result: docs/results/isogclr_digits, made by commit e0daeb0.

    Args:
        imbalance: size of the smallest class over that of the largest, above 0, at most 1.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step; of each there are two views.
        learning_rate: of Adam, at the start.
        temperature: of SimCLR, SogCLR and SCENT.
        starts: initial temperatures of iSogCLR; the table of results is about the first.
        gamma: weight of the newest visit in the moving average of SogCLR and iSogCLR.
        log_step: of SCENT, whose weight is the larger the larger the average; 10 in its paper.
        temperatures: how iSogCLR learns them.
        precision: in which the network computes: bfloat16 is for accelerators.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and ten epochs; a checkpoint as often; at the end the tables `results`,
        `starts` and `classes`, the figures `temperature_by_class`, `temperature_histogram` and
        `neighbours`, and the arrays `history`: final temperatures ``[starts, seeds, N]`` and labels
        ``[seeds, N]``.
    """
    check_contrast(batch_size, starts, temperatures)
    parts = stack([long_tailed_digits(imbalance, seed) for seed in range(seeds)])
    labels = parts["train"]["label"]
    methods = contrasts(temperature=temperature, starts=starts, gamma=gamma, learnt=temperatures)
    methods.insert(2, scent(temperature=temperature, log_step=log_step))
    check_losses(methods, 2 * batch_size)
    size = labels.shape[1]
    check_batch_size(batch_size, size)
    total_steps = epochs * -(-size // batch_size)
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, total_steps))
    model = models.in_dtype(MODEL, precision)
    params = initial_variables(model, parts["train"]["x"][0, :1], range(seeds))
    data_sets = parts | {"params": params, "seed": np.arange(seeds), "extra": {}}

    def tables(start):
        return contrastive.isogclr_table(size, start, fingerprint=train.fingerprint(labels))

    def embed(params, extra, batch, key):
        images = batch["x"].reshape(-1, SIDE, SIDE)
        views = [augment.random_affine(one, images) for one in jax.random.split(key)]
        _, found = model.apply(params, jnp.concatenate(views).reshape(-1, SIDE**2))
        return evaluation.unit_rows(found).reshape(2, -1, found.shape[-1]), extra

    def measure(state, data_set):
        rows = state.tables.values
        return {"temperature": rows.temperature, "log_u": rows.log_u}

    runs = [
        train.in_lanes(
            contrastive_trainer(of_views(method, embed), tx, tables, measure),
            np.float32(method.starts),
            data_sets,
            mesh=train.lanes_mesh(seeds, local=False),
        )
        for method in methods
    ]

    def describe(method, measured):
        found = measured["temperature"][:, 0]
        row = {"temperature": float(found.mean())}
        if method.name == "isogclr":
            row["spearman"] = float(correlations(found, labels, NUM_CLASSES).mean())
        return row

    order = {"size": size, "seeds": range(seeds), "epochs": epochs, "batch_size": batch_size}
    states, measured = yield from train_in_turns(
        methods, runs, describe, **order, every=EPOCHS_PER_ROW, resume=resume
    )
    final = [found["temperature"].swapaxes(0, 1) for found in measured]
    accuracies = [np.asarray(_probe(state.params, parts)) for state in states]
    rates = {"simclr": None, "sogclr": gamma, "isogclr": gamma}
    log_u = jnp.asarray(measured[2]["log_u"])
    rates["scent"] = float(contrastive.scent_gamma(log_u, log_step=log_step).mean())
    table = _results(methods, final, accuracies, labels)
    yield Artifact("results", [line | {"mean gamma": rates[line["method"]]} for line in table])
    learnt = final[-1]
    yield Artifact("starts", independence_table(starts, learnt))
    yield Artifact("classes", _classes(learnt[0], labels))
    about = f"long-tailed digits, imbalance {imbalance:g}, rho {temperatures.rho:g}"
    yield Artifact("temperature_by_class", by_class_figure(learnt[0], labels, NUM_CLASSES, about))
    by_start = {f"from {start:g}": learnt[i] for i, start in enumerate(starts)}
    yield Artifact("temperature_histogram", histogram_figure(by_start, about))
    first = jax.tree.map(lambda leaf: leaf[0, 0], states[-1].params)
    images = parts["train"]["x"][0]
    embeddings = np.asarray(evaluation.unit_rows(MODEL.apply(first, images)[1]))
    grid = neighbours_figure(
        images.reshape(-1, SIDE, SIDE), embeddings, learnt[0, 0], f"{about}, seed 0"
    )
    yield Artifact("neighbours", grid)
    yield Artifact("history", {"temperatures": learnt, "labels": labels})


def long_tailed_digits(imbalance: float, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Training digits whose classes shrink, and 50 of each for the test."""
    sizes = {"num_classes": NUM_CLASSES, "largest": LARGEST_CLASS, "test_per_class": TEST_PER_CLASS}
    rng = np.random.default_rng(seed)
    train, test = data.long_tailed_parts(data.digits(), imbalance, rng, **sizes)
    return {"train": train, "test": test}


@jax.jit
def _probe(params: Any, parts: Mapping[str, Mapping[str, jax.Array]]) -> jax.Array:
    """Test accuracy of a linear probe of every run, ``[seeds, starts]``."""

    def of_one(params, parts):
        found = [
            (MODEL.apply(params, part["x"])[0], part["label"])
            for part in (parts["train"], parts["test"])
        ]
        return balanced_probe_accuracy(*found, num_classes=NUM_CLASSES, l2=PROBE_L2)[0]

    return jax.vmap(jax.vmap(of_one, (0, None)))(params, parts)


def _results(
    methods: Sequence[Contrast],
    final: Sequence[np.ndarray],
    accuracies: Sequence[np.ndarray],
    labels: np.ndarray,
) -> list[dict[str, Any]]:
    """A line per method, from its first start: accuracy, gain over SimCLR, temperatures."""
    baseline = 100 * accuracies[0][:, 0].astype(np.float64)
    lines = []
    for method, (temperatures, *_), accuracy in zip(methods, final, accuracies, strict=True):
        values = 100 * accuracy[:, 0].astype(np.float64)
        line = {"method": method.name} | mean_and_std(values, "probe accuracy %")
        none = {"gain": None, "std of gain": None, "gain / its s.e.": None}
        line |= none if method is methods[0] else paired_gain(values, baseline)
        line["mean temperature"] = float(temperatures.mean())
        if method.name == "isogclr":
            found = correlations(temperatures, labels, NUM_CLASSES)
            head, tail = head_and_tail(temperatures, labels, NUM_CLASSES)
            line |= {"spearman": float(found.mean()), "least spearman": float(found.min())}
            line |= {"head": head, "tail": tail}
        else:
            line |= dict.fromkeys(("spearman", "least spearman", "head", "tail"))
        lines.append(line)
    return lines


def _classes(temperatures: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """A line per rank of class size: the mean temperature, over seeds."""
    counts = class_counts(labels, NUM_CLASSES)
    means = class_means(temperatures, labels, NUM_CLASSES)
    order = np.argsort(-counts, axis=-1, kind="stable")
    counts, means = (np.take_along_axis(array, order, -1) for array in (counts, means))
    return [
        {"rank": rank + 1, "examples": int(counts[0, rank])}
        | mean_and_std(means[:, rank], "temperature")
        for rank in range(NUM_CLASSES)
    ]
