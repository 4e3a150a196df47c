"""iSogCLR on long-tailed digits: temperatures follow the frequency of what an image shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    NUM_CLASSES,
    SIDE,
    Contrast,
    balanced,
    check_contrast,
    check_losses,
    contrasts,
    long_tailed_digits,
    make_runs,
    new_table,
    of_views,
    random_view,
    standardized,
    train_in_turns,
    unit,
)
from lnl_jax import evaluation, metrics, models
from lnl_jax.comparison.networks import initial_variables
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
from lnl_jax.data.splits import stack
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Seeds,
    check_batch_size,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

MODEL = models.ProjectedEncoder(
    models.MLP(num_classes=128, hidden=(256,), activation=nn.relu),
    models.MLP(num_classes=64, hidden=(128,), activation=nn.relu),
)
PROBE_L2 = 1e-3
EPOCHS_PER_ROW = 10
PyTree = Any


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
    rho: NotNegative = 0.4,
    gamma: PositiveShare = 0.8,
    temperature_step: NotNegative = 0.05,
    temperature_momentum: PositiveShare = 0.9,
    temperature_clip: Positive = 3.0,
    temperature_range: tuple[Positive, ...] = (0.05, 1.0),
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """SimCLR, SogCLR and iSogCLR on long-tailed digits, and what iSogCLR's temperatures become.

    Scikit-learn's handwritten digits. 50 images of each class are held out for the test; of the
    others, class k in a random order keeps ``120 * imbalance ** (k / 9)``. Views are random affine
    maps with changed contrast and noise; encoder and projector are small perceptrons, trained by
    Adam with a cosine schedule. Seeds train side by side and share split, order and initialisation
    between the methods, so that differences are paired. A linear probe on the encoder, fitted to
    the training images with classes of equal weight, is tested on the held-out ones.

    The claims are those of Qiu et al., "Not All Semantics are Created Equal: Contrastive
    Self-supervised Learning with Automatic Temperature Individualization" (ICML 2023), figures 1
    and 5: frequent semantics get a higher temperature, and the initial temperature does not matter.
    Expected here: a Spearman correlation of class size and mean temperature of at least 0.7 in the
    mean over seeds, and final mean temperatures within about 10% whatever the start. The accuracies
    of the methods do not differ by more than their deviation: digits are too easy for that:
        python experiments/run.py --exp isogclr_digits

    Time: about three minutes on 2 busy CPU cores.

    Args:
        imbalance: size of the smallest class over that of the largest, above 0, at most 1.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step; of each there are two views.
        learning_rate: of Adam, at the start.
        temperature: of SimCLR and SogCLR.
        starts: initial temperatures of iSogCLR; the table of results is about the first.
        rho: radius of the KL ball; larger means lower temperatures.
        gamma: weight of the newest visit in the moving average.
        temperature_step: of the temperatures' descent.
        temperature_momentum: weight of the newest gradient of a temperature.
        temperature_clip: bound of that gradient.
        temperature_range: lowest and highest temperature.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and ten epochs; a checkpoint as often; at the end the tables `results`,
        `starts` and `classes`, the figures `temperature_by_class`, `temperature_histogram` and
        `neighbours`, and the arrays `history`: final temperatures ``[starts, seeds, N]`` and labels
        ``[seeds, N]``.
    """
    check_contrast(batch_size, starts, temperature_range)
    parts = stack([long_tailed_digits(imbalance, seed) for seed in range(seeds)])
    labels = parts["train"]["label"]
    methods = contrasts(
        temperature=temperature,
        starts=starts,
        rho=rho,
        gamma=gamma,
        temperature_step=temperature_step,
        temperature_momentum=temperature_momentum,
        temperature_clip=temperature_clip,
        temperature_range=temperature_range,
    )
    check_losses(methods, 2 * batch_size)
    size = labels.shape[1]
    check_batch_size(batch_size, size)
    total_steps = epochs * -(-size // batch_size)
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, total_steps))
    params = initial_variables(MODEL, parts["train"]["x"][0, :1], range(seeds))
    runs = [
        make_runs(
            method,
            of_views(method, _embed),
            tx,
            params,
            parts["train"],
            lambda start: new_table(size, start, labels),
            range(seeds),
        )
        for method in methods
    ]

    def describe(method, state):
        temperatures = np.asarray(state.tables.values.temperature[0])
        found = {"temperature": float(temperatures.mean())}
        if method.name == "isogclr":
            found["spearman"] = float(correlations(temperatures, labels, NUM_CLASSES).mean())
        return found

    states = yield from train_in_turns(
        methods,
        runs,
        describe,
        shape=labels.shape,
        epochs=epochs,
        batch_size=batch_size,
        every=EPOCHS_PER_ROW,
        resume=resume,
    )
    temperatures = np.asarray(states[-1].tables.values.temperature)
    accuracies = [np.asarray(_probe(state.params, parts)) for state in states]
    yield Artifact("results", _results(methods, states, accuracies, labels))
    yield Artifact("starts", independence_table(starts, temperatures))
    yield Artifact("classes", _classes(temperatures[0], labels))
    about = f"long-tailed digits, imbalance {imbalance:g}, rho {rho:g}"
    yield Artifact(
        "temperature_by_class", by_class_figure(temperatures[0], labels, NUM_CLASSES, about)
    )
    by_start = {f"from {start:g}": temperatures[i] for i, start in enumerate(starts)}
    yield Artifact("temperature_histogram", histogram_figure(by_start, about))
    first = jax.tree.map(lambda leaf: leaf[0, 0], states[-1].params)
    images = parts["train"]["x"][0]
    embeddings = np.asarray(unit(MODEL.apply(first, images)[1]))
    grid = neighbours_figure(
        images.reshape(-1, SIDE, SIDE), embeddings, temperatures[0, 0], f"{about}, seed 0"
    )
    yield Artifact("neighbours", grid)
    yield Artifact("history", {"temperatures": temperatures, "labels": labels})


def _embed(params: PyTree, extra: PyTree, batch: Mapping, key: jax.Array):
    both = jnp.concatenate([random_view(one, batch["x"]) for one in jax.random.split(key)])
    _, embeddings = MODEL.apply(params, both)
    return unit(embeddings).reshape(2, -1, embeddings.shape[-1]), extra


@jax.jit
def _probe(params: PyTree, parts: Mapping[str, Mapping[str, jax.Array]]) -> jax.Array:
    """Test accuracy of a linear probe of every run, ``[starts, seeds]``."""

    def of_one(params, parts):
        train, test = (MODEL.apply(params, parts[name]["x"])[0] for name in ("train", "test"))
        label = parts["train"]["label"]
        probe = evaluation.fit_linear_probe(
            standardized(train, train),
            label,
            num_classes=NUM_CLASSES,
            l2=PROBE_L2,
            weights=balanced(label, NUM_CLASSES),
        )
        scores = evaluation.probe_scores(probe, standardized(test, train))
        return metrics.accuracy(scores, parts["test"]["label"]).value

    return jax.vmap(jax.vmap(of_one), (0, None))(params, parts)


def _results(
    methods: Sequence[Contrast],
    states: Sequence[PyTree],
    accuracies: Sequence[np.ndarray],
    labels: np.ndarray,
) -> list[dict[str, Any]]:
    """A line per method, from its first start: accuracy, gain over SimCLR, temperatures."""
    baseline = 100 * accuracies[0][0].astype(np.float64)
    lines = []
    for method, state, accuracy in zip(methods, states, accuracies, strict=True):
        values = 100 * accuracy[0].astype(np.float64)
        line = {"method": method.name} | mean_and_std(values, "probe accuracy %")
        none = {"gain": None, "std of gain": None, "gain / its s.e.": None}
        line |= none if method is methods[0] else paired_gain(values, baseline)
        temperatures = np.asarray(state.tables.values.temperature[0])
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
