"""iSogCLR on long-tailed images: the protocol of the paper, with SimCLR and SogCLR beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    Contrast,
    Lars,
    LearntTemperatures,
    check_contrast,
    check_losses,
    contrastive_trainer,
    contrasts,
    of_views,
)
from lnl_jax import contrastive, data, evaluation, metrics, models, train
from lnl_jax.comparison import encoders
from lnl_jax.comparison.catalogue import IMAGE_SETS, MODELS
from lnl_jax.comparison.encoders import embed_views, features_of
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.noisy_images import name_of_choice, read_images
from lnl_jax.comparison.runs import steps_at_once
from lnl_jax.comparison.temperatures import (
    by_class_figure,
    classes_table,
    correlations,
    histogram_figure,
    neighbours_figure,
)
from lnl_jax.comparison.turns import train_in_turns
from lnl_jax.data import augment
from lnl_jax.runner.arguments import (
    Count,
    Positive,
    PositiveShare,
    Precision,
    Seed,
    Size,
    StudyError,
    check_batch_size,
    check_network,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

PyTree = Any
PROBE_L2 = 1e-3
# Checkpoints and rows of a whole run.
TURNS = 20
# Those that can leave out their last layer.
ENCODERS = {name: MODELS[name] for name in ("resnet8", "resnet18", "resnet20", "resnet34")}


@study
def isogclr_cifar(
    *,
    dataset: Annotated[Callable, IMAGE_SETS] = data.cifar100,
    model: Annotated[Callable, ENCODERS] = models.resnet18,
    imbalance: PositiveShare = 0.01,
    train_size: Count | None = None,
    seed: Seed = 0,
    epochs: Count = 400,
    batch_size: Count = 128,
    lars: Lars = Lars(),
    projector_width: Size = 8192,
    temperature: Positive = 0.1,
    gamma: PositiveShare = 0.8,
    temperatures: LearntTemperatures = LearntTemperatures(),
    num_neighbours: Count = 200,
    precision: Precision = jnp.float32,
    shard_tables: bool = False,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """SimCLR, SogCLR and iSogCLR on images whose classes are of very different sizes.

    Class k keeps ``n * imbalance ** (k / (K - 1))`` of its n training images. Two views of each
    image as in SimCLR; a ResNet-18 for small images and a projector of three layers of 8192, for
    all methods; LARS, whose learning rate rises from 0.01 over ten epochs and then falls along a
    cosine to a thousandth; scales, shifts and biases are neither decayed nor rescaled. All defaults
    are those of the official code for CIFAR-100: 400 epochs, a matter of an accelerator. The
    methods share the images, their order and the initial network. The encoder's features are
    judged by a linear probe, fitted to the long-tailed training images by L-BFGS (the official
    code: 100 epochs of SGD), and by weighted nearest neighbours, on the balanced test images.

    Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
    Automatic Temperature Individualization" (ICML 2023), table 1, reports a higher accuracy than
    SimCLR and SogCLR have on such images; its figures 1 and 5 show higher temperatures of
    frequent semantics. For a CPU, a small network and few epochs, from which no gain is expected:
        python experiments/run.py --exp isogclr_cifar --dataset shapes32 --model resnet8 \
            --model.width 8 --projector_width 64 --epochs 4 --lars.warmup_epochs 1 --batch_size 64

    Time: an accelerator; minutes of a CPU with a small network.

    Args:
        dataset: of images, in colour or grey.
        model: the encoder.
        imbalance: size of the smallest class over that of the largest, above 0, at most 1.
        train_size: takes the classes from that many of the training images; none takes all.
        seed: of the choice of images, the initialisation and the order.
        epochs: passes over the training set.
        batch_size: images per step; of each there are two views.
        lars: the optimiser.
        projector_width: of all three layers of the projector.
        temperature: of SimCLR and SogCLR, and where iSogCLR starts.
        gamma: weight of the newest visit in the moving average.
        temperatures: how iSogCLR learns them.
        num_neighbours: that vote; at most as many as there are training images.
        precision: in which the network computes: bfloat16 is for accelerators.
        shard_tables: whether the tables of temperatures are split over the devices, as batches are.
        data_dir: a folder with DATASET.npz or a prepared TFDS set; none looks in the usual places
            and downloads.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and turn of epochs; checkpoints, also within a turn; at the end the tables
        `results` and `classes`, the figures `temperature_by_class`, `temperature_histogram` and
        `neighbours`, and the arrays `history`: iSogCLR's final temperatures and the labels,
        ``[N]``.
    """
    check_contrast(batch_size, (temperature,), temperatures)
    if lars.warmup_epochs >= epochs:
        raise StudyError(
            f"lars.warmup_epochs must be from 0 to epochs - 1 = {epochs - 1}, got "
            f"{lars.warmup_epochs}."
        )
    splits = read_images(dataset, data_dir, train_size, seed)
    names = splits.class_names or [str(label) for label in range(splits.num_classes)]
    part = {name: splits.train[name] for name in ("image", "label")}
    rng = np.random.default_rng(seed)
    part = data.long_tailed(part, imbalance, rng, num_classes=splits.num_classes)
    labels = part["label"]
    projector = models.ProjectionHead((projector_width,) * 2, projector_width)
    network = models.in_dtype(models.ProjectedEncoder(model(None), projector), precision)
    check_batch_size(batch_size, len(labels))
    example = jnp.zeros((1, *part["image"].shape[1:]))
    check_network("model with projector_width", lambda: network.init(jax.random.key(0), example))
    variables = initial_variables(network, example, [seed], impl="rbg")
    variables = jax.tree.map(lambda leaf: leaf[0], variables)
    steps_per_epoch = -(-len(labels) // batch_size)
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.01 if lars.warmup_epochs else lars.learning_rate,
        peak_value=lars.learning_rate,
        warmup_steps=lars.warmup_epochs * steps_per_epoch,
        decay_steps=epochs * steps_per_epoch,
        end_value=lars.learning_rate / 1000,
    )
    tx = encoders.lars(schedule, lars.weight_decay)
    methods = contrasts(
        temperature=temperature, starts=(temperature,), gamma=gamma, learnt=temperatures
    )
    check_losses(methods, 2 * batch_size)
    mean, std = augment.channel_statistics(part["image"])
    embed = embed_views(network, mean, std, padded=len(labels) % batch_size > 0)
    data_set = {
        "train": part,
        "params": variables["params"],
        "extra": variables.get("batch_stats", {}),
        "seed": seed,
    }

    def tables(start):
        return contrastive.isogclr_table(len(labels), start, fingerprint=train.fingerprint(labels))

    def measure(state, data_set):
        return {"temperature": state.tables.values.temperature}

    mesh = train.batch_mesh(batch_size, split_tables=shard_tables)
    runs = [
        train.in_turn(
            contrastive_trainer(of_views(method, embed), tx, tables, measure),
            np.float32(method.starts),
            [data_set],
            mesh=mesh,
            split_tables=shard_tables,
        )
        for method in methods
    ]

    def describe(method, measured):
        found = measured["temperature"][0]
        row = {"temperature": float(found.mean())}
        if method.name == "isogclr":
            row["spearman"] = float(correlations(found, labels[None], splits.num_classes)[0])
        return row

    order = {"size": len(labels), "seeds": [seed], "epochs": epochs, "batch_size": batch_size}
    order |= {"every": max(epochs // TURNS, 1), "steps_at_once": steps_at_once(len(methods))}
    states, measured = yield from train_in_turns(methods, runs, describe, **order, resume=resume)
    states = [jax.tree.map(lambda leaf: leaf[0, 0], state) for state in states]
    features = []
    for state in states:
        own = {"params": state.params, "batch_stats": state.extra}
        both = part["image"], splits.test["image"]
        features.append([features_of(network, own, images, mean, std) for images in both])
    columns = [describe(*each) for each in zip(methods, measured, strict=True)]
    yield Artifact("results", _results(methods, columns, features, labels, splits, num_neighbours))
    final = measured[-1]["temperature"][0, 0]
    yield Artifact("classes", classes_table(final, labels, names))
    source = f"{name_of_choice(dataset)}{', generated' * splits.generated}"
    about = f"{source}, imbalance {imbalance:g}, rho {temperatures.rho:g}"
    by_class = by_class_figure(final[None], labels[None], splits.num_classes, about)
    yield Artifact("temperature_by_class", by_class)
    yield Artifact("temperature_histogram", histogram_figure({"iSogCLR": final}, about))
    near = np.asarray(evaluation.unit_rows(features[-1][0]))
    yield Artifact("neighbours", neighbours_figure(part["image"], near, final, about))
    yield Artifact("history", {"temperatures": final, "labels": labels})


def _results(
    methods: Sequence[Contrast],
    columns: Sequence[Mapping[str, float]],
    features: Sequence[Sequence[jax.Array]],
    labels: np.ndarray,
    splits: data.Splits,
    num_neighbours: int,
) -> list[dict[str, Any]]:
    """A line per method: accuracies on the test images, temperatures."""
    num_classes, test = splits.num_classes, jnp.asarray(splits.test["label"])
    lines = []
    for method, column, (here, there) in zip(methods, columns, features, strict=True):
        probe = evaluation.fit_linear_probe(
            evaluation.standardize(here, here),
            jnp.asarray(labels),
            num_classes=num_classes,
            l2=PROBE_L2,
        )
        found = {
            "probe accuracy %": evaluation.probe_scores(probe, evaluation.standardize(there, here)),
            "kNN accuracy %": evaluation.knn_scores(
                evaluation.unit_rows(there),
                evaluation.unit_rows(here),
                jnp.asarray(labels),
                num_classes=num_classes,
                num_neighbours=min(num_neighbours, len(labels)),
            ),
        }
        line = {"method": method.name, "training images": len(labels)}
        line |= {
            name: 100 * float(metrics.accuracy(scores, test).value)
            for name, scores in found.items()
        }
        line |= {"mean temperature": column["temperature"], "spearman": column.get("spearman")}
        lines.append(line)
    return lines
