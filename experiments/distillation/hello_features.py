"""The three pillars on one frozen tower: contrastive heads, robust projectors, students of both."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import data, metrics, models, train
from lnl_jax.comparison.captioned_features import captions
from lnl_jax.comparison.catalogue import LOSSES
from lnl_jax.comparison.feature_heads import HeadPlan, principal_features
from lnl_jax.comparison.feature_projectors import (
    chosen_projectors,
    contrastive_heads,
    trained,
)
from lnl_jax.comparison.image_networks import in_chunks
from lnl_jax.comparison.named_noises import noisy_labels
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.comparison.runs import Method, make_trainer, stack_settings
from lnl_jax.comparison.statistics import mean_and_std, paired_gain
from lnl_jax.comparison.tower_features import digit_images, read_features
from lnl_jax.data import augment
from lnl_jax.runner import (
    Artifact,
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Seeds,
    refused,
    stage,
    study,
)
from lnl_jax.runner.arguments import check_batch_size, check_images, check_names, check_once

SETS: dict[str, Callable] = {"digits": digit_images, "cifar10": data.cifar10}
SETS |= {"cifar100": data.cifar100} | OWN_SETS
# What projectors stand on: the features as they are, and what heads make of them.
PLAIN, CLIP, ISOGCLR = FOUNDATIONS = ("features", "clip", "isogclr")
GIVEN, TRUE, NAMES = "given labels", "true labels", "isogclr, names alone"


@study
def hello_features(
    *,
    dataset: Annotated[Callable, SETS] = digit_images,
    noise: str = "symmetric_60",
    losses: tuple[str, ...] = ("generalized_cross_entropy", "ldr_kl", "aldr_kl"),
    temperature: Positive = 0.1,
    rho: NotNegative = 0.3,
    width: Count = 256,
    head_epochs: Count = 20,
    projector_epochs: Count = 20,
    weight_decays: tuple[NotNegative, ...] = (1e-3, 1e-2, 1e-1),
    temperatures: tuple[Positive, ...] = (10.0, 50.0),
    batch_size: Count = 256,
    validation: PositiveShare = 0.15,
    per_class: Count = 50,
    student_epochs: Count = 40,
    student_width: Count = 32,
    seeds: Seeds = 3,
    sentences: str | None = None,
    tower: str | None = None,
    pixels: Count = 224,
    features: str | None = None,
    data_dir: str | None = None,
) -> Iterator[dict[str, Any] | Artifact]:
    """Heads by iSogCLR, projectors by robust losses, students of their labels: all from noise.

    Nobody sees a clean label but the test. Heads for images and for captions with the given, noisy,
    class are trained by CLIP's loss or iSogCLR on features of a frozen tower. Projectors, linear
    heads with as many inputs, learn the given labels from the features or from what these heads
    make of them, by cross-entropy with its best weight decay and by robust losses, whose settings
    noisy validation labels choose. Students, small convolutional networks without pretrained
    weights, see some training images of each given class, flipped and moved, with the class
    probabilities that a projector has of them, stored once: against given and true labels.

    A combination of "Not All Semantics are Created Equal" (iSogCLR, ICML 2023), "Label
    Distributionally Robust Losses" (LDR, ICML 2023) and "Heavy Labels Out!" (HeLlO, ICCV 2025)
    that none of them has; students here get one stored label an image, no labels of crops:
        python experiments/run.py --exp hello_features
        python experiments/run.py --exp hello_features --dataset cifar10 --data_dir DIR \
            --noise worse --tower efficientnet-lite0.safetensors --features features.npz \
            --sentences MINILM

    Time: some minutes of a CPU core.

    Result: robust losses gain 2 points, iSogCLR's heads none; docs/results/hello_features.

    Args:
        dataset: digits, cifar10, cifar100, or your own: csv, folder, npz, tfds; images.
        noise: symmetric_NN, pairflip_NN or asymmetric_NN for NN percent, or other labels of the
            set, label_NAME; drawn once.
        losses: of projectors, beside cross-entropy with its best weight decay.
        temperature: of CLIP's loss, and where iSogCLR's start.
        rho: of iSogCLR.
        width: principal axes of the features, and what heads give.
        head_epochs: passes over the training part for the contrastive heads.
        projector_epochs: likewise for projectors.
        weight_decays: of projectors, to choose from.
        temperatures: of LDR-KL and ALDR-KL, to choose from.
        batch_size: examples per step of heads and projectors.
        validation: the share of the rows that validate.
        per_class: images of each given class that students see.
        student_epochs: passes over them.
        student_width: channels of a student.
        seeds: how many repetitions of split, projectors and students, at least 2.
        sentences: a folder with an encoder of sentences; none counts words.
        tower: a file of EfficientNet-Lite0; without one the features are the pixels.
        pixels: rows and columns that the tower sees.
        features: an .npz file that keeps what the tower makes of the images; none keeps nothing.
        data_dir: the folder of the data set.

    Yields:
        A row per stage; the tables `projectors` and `students`, with gains over cross-entropy on
        the features as they are, and over given labels.
    """
    check_names("losses", losses, LOSSES)
    check_once("weight_decays", weight_decays)
    with refused():
        splits = dataset(data_dir)
        check_images(splits, "dataset")
        given = noisy_labels(splits, noise, 0)
        texts = captions(splits, ("a photo of a {name}",), sentences)
        columns = np.concatenate([splits.train["image"], splits.test["image"]])
        columns = columns.reshape(len(columns), -1)
        if tower is not None:
            columns = read_features(splits, tower, pixels, features)
    clean, size = splits.train["label"], len(given)
    check_batch_size(batch_size, size - round(validation * size))
    x = principal_features(columns, size, width)
    shown = (x[:size], texts.text, texts.classes[given, 0])
    found = {PLAIN: {"x": x}}
    epochs = itertools.count(1)
    for name in (CLIP, ISOGCLR):
        learnt = (temperature, None if name == CLIP else rho)
        found[name] = yield from stage(
            f"heads_{name}",
            contrastive_heads,
            x,
            shown,
            texts.classes[:, 0],
            learnt,
            head_epochs,
            batch_size,
        )
        right = found[name]["names"][size:].argmax(1) == splits.test["label"]
        yield {"epoch": next(epochs), "method": f"{name}, names", "accuracy": float(right.mean())}
    plan = HeadPlan(projector_epochs, batch_size, (0.1,), weight_decays, temperatures)
    labels = (given, splits.test["label"], splits.num_classes)
    inputs = np.concatenate([found[name]["x"] for name in FOUNDATIONS])
    made = yield from stage(
        "projectors", chosen_projectors, inputs, labels, losses, plan, validation, seeds
    )
    rows = _projector_rows(made)
    yield Artifact("projectors", rows)
    for row in rows:
        name = f"{row['foundation']}, {row['loss']}"
        yield {"epoch": next(epochs), "method": name, "accuracy": row["accuracy %"] / 100}
    one_hot = np.eye(splits.num_classes, dtype=np.float32)
    sources = {
        (GIVEN,): [one_hot[given]] * seeds,
        (TRUE,): [one_hot[clean]] * seeds,
        (NAMES,): [found[ISOGCLR]["names"][:size]] * seeds,
    }
    for name, one in made.items():
        for at, foundation in enumerate(FOUNDATIONS):
            if foundation != CLIP:
                sources[foundation, name] = one["probabilities"][at]
    network = models.ConvNet(splits.num_classes, student_width, 3 if x.shape[1] > 200 else 2)
    accuracies = yield from stage(
        "students", _students, network, splits, given, sources, per_class, student_epochs, seeds
    )
    yield Artifact("students", _student_rows(accuracies, sources, clean))


def _projector_rows(made: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    baseline = 100 * next(iter(made.values()))["test"][0].astype(np.float64)
    rows = []
    for at, foundation in enumerate(FOUNDATIONS):
        for name, one in made.items():
            accuracy = 100 * one["test"][at].astype(np.float64)
            row = {"foundation": foundation, "loss": name} | mean_and_std(accuracy, "accuracy %")
            rows.append(row | paired_gain(accuracy, baseline) | {"chosen": one["chosen"][at]})
    return rows


def _students(network, splits, given, sources, per_class, epochs, seeds) -> np.ndarray:
    """Test accuracies of students of each source of labels, ``[sources, seeds]``."""
    image = splits.train["image"]
    mean, std = augment.channel_statistics(image)
    test = {name: jnp.asarray(splits.test[name]) for name in ("image", "label")}
    shown = functools.partial(augment.to_float, mean=mean, std=std)
    params = initial_variables(network, shown(jnp.asarray(image[:1])), range(seeds))
    data_sets = []
    for targets, seed in itertools.product(sources.values(), range(seeds)):
        rng = np.random.default_rng(seed)
        members = [np.flatnonzero(given == label) for label in range(splits.num_classes)]
        rows = np.concatenate([rng.permutation(one)[:per_class] for one in members])
        part = {"image": image[rows], "target": targets[seed][rows], "label": given[rows]}
        part["index"] = np.arange(len(rows), dtype=np.int32)
        own = jax.tree.map(lambda leaf, seed=seed: leaf[seed], params)
        data_sets.append({"train": part, "params": own, "seed": np.int32(seed), "test": test})

    def loss_fn(setting, known, params, extra, rows, batch, key):
        moved = augment.random_crop(key, batch["image"], padding=image.shape[1] // 8)
        logits = network.apply(params, shown(moved))
        return optax.softmax_cross_entropy(logits, batch["target"]), (extra, rows, {})

    def measure(setting, data_set, state):
        held = data_set["test"]
        scores = in_chunks(lambda some: network.apply(state.params, shown(some)), held["image"])
        return {"accuracy": metrics.accuracy(scores, held["label"]).value}

    size = len(data_sets[0]["train"]["index"])
    batch_size = min(50, size)
    method = Method("soft cross-entropy", loss_fn, [{"learning_rate": 0.05}])
    schedule = train.staircase_schedule(-(-size // batch_size) * epochs)
    trainer = make_trainer(method, schedule, measure, weight_decay=5e-4)
    mesh = train.batch_mesh(batch_size, or_one=True, local=True)
    runs = train.in_turn(trainer, stack_settings(method.settings), data_sets, mesh=mesh)
    streams = [seed for _ in sources for seed in range(seeds)]
    measured = trained(runs, data.epoch_plans(size, batch_size, streams), epochs)
    return measured["accuracy"].reshape(len(sources), seeds)


def _student_rows(accuracies, sources, clean) -> list[dict[str, Any]]:
    rows = []
    for key, values, targets in zip(sources, accuracies, sources.values(), strict=True):
        percent = 100 * values.astype(np.float64)
        right = [100 * (one.argmax(1) == clean).mean() for one in targets]
        row = {"labels": ", ".join(key), "labels right %": float(np.mean(right))}
        row |= mean_and_std(percent, "student %")
        rows.append(row | paired_gain(percent, 100 * accuracies[0].astype(np.float64)))
    return rows
