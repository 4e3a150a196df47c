"""How well labels are read from what a tower sends, and what noise on it hides."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, evaluation, models
from lnl_jax.comparison import depths
from lnl_jax.comparison.catalogue import IMAGE_SETS
from lnl_jax.comparison.feature_heads import principal_features
from lnl_jax.comparison.noisy_images import read_images
from lnl_jax.comparison.statistics import mean_and_std
from lnl_jax.comparison.tower_features import digit_images
from lnl_jax.data import preprocess
from lnl_jax.runner import (
    Artifact,
    Count,
    Positive,
    PositiveShare,
    Seeds,
    StudyError,
    Whole,
    refused,
    stage,
    study,
)
from lnl_jax.runner.arguments import check_once

LEAST, BLOCKS = 32, 16
# Of the probes, the best of which validation chooses.
DECAYS = (1e-3, 1e-2, 1e-1)
ITERATIONS, NEIGHBOURS = 100, 20
# How the noise is drawn, and whether the reader was fitted to what is sent or to maps without it.
READERS = ("probe %", "neighbours %")
NONE, SAME, FRESH = "none", "the same for all", "fresh for each"
FORMATS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@study
def label_leakage(
    *,
    dataset: Annotated[Callable, {"digits": digit_images} | IMAGE_SETS] = digit_images,
    tower: str | None = None,
    pixels: Count = LEAST,
    cuts: tuple[Whole, ...] = (0, 2, 4, 7, 10, 14, 15),
    scales: tuple[Positive, ...] = (1.0, 4.0, 16.0),
    columns: Count = 512,
    width: Whole = 256,
    train_size: Count | None = None,
    judged: Count = 256,
    validation: PositiveShare = 0.2,
    seeds: Seeds = 3,
    features: str | None = None,
    data_dir: str | None = None,
) -> Iterator[dict[str, Any] | Artifact]:
    """Linear probes and neighbours read labels from each depth of a tower, with and without noise.

    A device computes a network up to a block and sends the map; another goes on from there. Who
    listens reads labels from means over cells of the map, on their principal axes, by logistic
    regression and by neighbours. Noise on every value of the map, in multiples of the deviation of
    all its values, is taken off by a receiver who knows its seed. It is the same for all images or
    fresh for each, and the listener was fitted to what is sent, with labels, or to maps without
    noise. The receiver's scores, those of a probe on the last features, are compared with what
    they would be: noise taken off in float32, after what was sent was rounded to bfloat16, or not
    taken off.

    The protection is that of Xiu and Zhang, "CapRecover: A Cross-Modality Feature Inversion Attack
    Framework on Vision Language Models" (ACM Multimedia 2025): noise that is added at a layer and
    removed at the next; probes by depth are those of Alain and Bengio, "Understanding Intermediate
    Layers Using Linear Classifier Probes" (2016). The protocol here is our own. On digits with
    random weights, and on CIFAR-10 with a pretrained tower:
        python experiments/run.py --exp label_leakage
        python experiments/run.py --exp label_leakage --dataset cifar10 --data_dir DIR \
            --tower efficientnet-lite0.safetensors --pixels 112 --features depths.npz

    Time: a minute of a CPU core for one cut of kept maps of 4,000 images, more for more.

    Result: 80% of CIFAR-10's labels are read before the top of the tower, and noise helps if it is
    fresh for each image; docs/results/label_leakage.

    Args:
        dataset: digits, cifar10, cifar100, fashion_mnist, mnist, shapes32, or your own: csv,
            folder, npz, tfds; of colour images.
        tower: a file of EfficientNet-Lite0; without one its weights are random, of seed 0.
        pixels: rows and columns that the tower sees, at least 32.
        cuts: blocks whose maps are sent with noise; all are read without.
        scales: of the noise, in deviations of the map.
        columns: so many means are kept of a map, or its channels where these are more.
        width: principal axes of them; 0 keeps all.
        train_size: keeps that many training images, classes in proportion; none keeps all.
        judged: test images whose way to the scores is followed.
        validation: the share of the training images that chooses the probe's weight decay.
        seeds: how many repetitions of split and noise, at least 2.
        features: an .npz file that keeps what is read of all images; none keeps nothing.
        data_dir: the folder of the data set.

    Yields:
        A row per depth; the tables `read`, of the listener, and `received`, of the receiver, and
        the figure `by_depth`.
    """
    _check(pixels, cuts)
    splits = read_images(dataset, data_dir, train_size)
    if splits.train["image"].shape[3] != 3:
        raise StudyError("dataset must be of colour images, three channels, for this tower.")
    with refused():
        model, variables = _tower(tower, pixels)
        places = depths.depths_of(model, pixels, columns)
        images = np.concatenate([splits.train["image"], splits.test["image"]])
        reading = depths.depth_tower(model, variables, preprocess.efficientnet_images, places)
        kept = data.embed(reading, images, pixels, cache=features)
    labels = np.concatenate([splits.train["label"], splits.test["label"]])
    size, classes = len(splits.train["label"]), splits.num_classes
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(depths.split_depths(kept, places)):
        noises = scales if one.depth.name in map(depths.block, cuts) else ()
        plan = (width or None, validation, seeds, number)
        name = one.depth.name.replace(" ", "_")
        of_depth = yield from stage(name, _read, one, labels, size, classes, noises, plan)
        rows += of_depth
        yield {key: of_depth[0][key] for key in ("depth", *READERS)}
    yield Artifact("read", rows)
    few = slice(size, size + judged)
    last = depths.split_depths(kept[:size], places)[-1].x
    known = (last, splits.train["label"], classes)
    network = (model, variables, pixels)
    shown = (images[few], labels[few])
    received = yield from stage("received", _received, network, known, shown, cuts, scales, seeds)
    yield Artifact("received", received)
    yield Artifact("by_depth", depths.leakage_figure(rows, FRESH))


def _tower(path: str | None, pixels: int) -> tuple[models.EfficientNetLite, Any]:
    if path is not None:
        model, variables = models.load_efficientnet(path)
        return model.clone(num_classes=None), variables
    model = models.EfficientNetLite(num_classes=None)
    return model, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, pixels, pixels, 3)))


def _check(pixels: int, cuts: Sequence[int]) -> None:
    if pixels < LEAST:
        raise StudyError(f"pixels must be at least {LEAST}, the product of all strides.")
    if max(cuts) >= BLOCKS:
        raise StudyError(f"cuts must be from 0 to {BLOCKS - 1}, the blocks, got {max(cuts)}.")
    check_once("cuts", cuts)


def _read(one, labels, size, classes, scales, plan) -> list[dict[str, Any]]:
    """What is read at a depth: a line for each noise and way of the listener."""
    width, validation, seeds, number = plan
    found: dict[tuple, list] = {}
    for seed in range(seeds):
        rng = np.random.default_rng((seed, number))
        order = rng.permutation(size)
        held = max(1, round(validation * size))
        parts = order[held:], order[:held]
        noisy = {
            (kind, scale): depths.noisy_columns(one, scale, rng, kind == SAME)
            for scale in scales
            for kind in (SAME, FRESH)
        }
        listen = functools.partial(_listen, labels, size, parts, classes, width)
        # Fitted to maps without noise, what is read with it and without.
        plain = listen(one.x, [one.x, *noisy.values()])
        found.setdefault((NONE, 0.0, "same"), []).append(plain[0])
        for key, columns, own in zip(noisy, noisy.values(), plain[1:], strict=True):
            found.setdefault((*key, "maps without noise"), []).append(own)
            found.setdefault((*key, "what is sent"), []).append(listen(columns, [columns])[0])
    rows = []
    for (kind, scale, fitted), values in found.items():
        row = {"depth": one.depth.name, "numbers": one.depth.width, "noise": kind}
        row |= {"scale": scale, "fitted to": fitted}
        for name, accuracies in zip(READERS, zip(*values, strict=True), strict=True):
            row |= mean_and_std(100 * np.array(accuracies), name)
        rows.append(row)
    return rows


def _listen(labels, size, parts, classes, width, train, tests) -> list[tuple[float, float]]:
    """Accuracy of probe and neighbours, fitted to training rows, on the test rows of others."""
    rows, held = parts
    columns = np.concatenate([train[:size], *(one[size:] for one in tests)])
    both = principal_features(columns, size, width)
    scores = [
        evaluation.probe_scores(probe, both) for probe in _fit(both[rows], labels[rows], classes)
    ]
    hits = [np.asarray(one.argmax(-1)) for one in scores]
    best = max(hits, key=lambda one: (one[held] == labels[held]).mean())[size:]
    units = np.asarray(evaluation.unit_rows(jnp.asarray(both)))
    found = []
    for mine, queries in zip(
        np.split(best, len(tests)), np.split(units[size:], len(tests)), strict=True
    ):
        votes = _votes(queries, units[rows], labels[rows], num_classes=classes)
        readers = (mine, np.asarray(votes.argmax(-1)))
        found.append(tuple(float((one == labels[size:]).mean()) for one in readers))
    return found


def _fit(x: np.ndarray, labels: np.ndarray, classes: int) -> list[evaluation.LinearProbe]:
    """A probe for each of `DECAYS`."""
    return [_probe(x, labels, num_classes=classes, l2=decay) for decay in DECAYS]


# Compiled once for all parts of one size.
_compiled = functools.partial(jax.jit, static_argnames="num_classes")
_probe = _compiled(functools.partial(evaluation.fit_linear_probe, max_iterations=ITERATIONS))
_votes = _compiled(functools.partial(evaluation.knn_scores, num_neighbours=NEIGHBOURS))


def _received(network, known, shown, cuts, scales, seeds) -> list[dict[str, Any]]:
    """What a receiver gets that takes the noise off: a line for each block, noise and format."""
    model, variables, pixels = network
    train, labels, classes = known
    probe = _fit(evaluation.standardize(train, train), labels, classes)[1]
    rows = []
    for cut in cuts:
        follow = depths.sent_and_received(model, cut, pixels, FORMATS)
        for scale in scales:
            got = []
            for seed in range(seeds):
                features = follow(variables, shown[0], scale, jax.random.key(seed))
                scores = {
                    name: np.asarray(
                        evaluation.probe_scores(probe, evaluation.standardize(one, train))
                    )
                    for name, one in features.items()
                }
                got.append(scores)
            for name in sorted(got[0].keys() - {"without"}):
                row = {"depth": depths.block(cut), "scale": scale, "noise": name}
                hits = [scores[name].argmax(-1) for scores in got]
                clean = got[0]["without"].argmax(-1)
                row |= {"accuracy without noise %": 100 * float((clean == shown[1]).mean())}
                row |= mean_and_std(
                    100 * np.array([(h == shown[1]).mean() for h in hits]), "accuracy %"
                )
                row |= mean_and_std(
                    100 * np.array([(h == clean).mean() for h in hits]), "same class %"
                )
                errors = [np.abs(scores[name] - scores["without"]).max() for scores in got]
                rows.append(row | {"largest error of a score": float(max(errors))})
    return rows
