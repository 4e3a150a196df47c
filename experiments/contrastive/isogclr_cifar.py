"""iSogCLR on long-tailed images: the protocol of the paper, with SimCLR and SogCLR beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    Contrast,
    Embed,
    check_contrast,
    check_losses,
    contrasts,
    make_runs,
    new_table,
    of_views,
    standardized,
    train_in_turns,
    unit,
)
from lnl_jax import data, evaluation, metrics, models
from lnl_jax.comparison.catalogue import IMAGE_SETS, MODELS
from lnl_jax.comparison.image_networks import in_chunks
from lnl_jax.comparison.images import name_of_choice, read_images, some_examples
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.temperatures import (
    by_class_figure,
    class_counts,
    class_means,
    correlations,
    histogram_figure,
    neighbours_figure,
)
from lnl_jax.data import augment
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Seed,
    Size,
    StudyError,
    Whole,
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
    learning_rate: Positive = 0.8,
    warmup_epochs: Whole = 10,
    weight_decay: NotNegative = 5e-4,
    projector_width: Size = 8192,
    temperature: Positive = 0.1,
    rho: NotNegative = 0.4,
    gamma: PositiveShare = 0.8,
    temperature_step: NotNegative = 0.03,
    temperature_momentum: PositiveShare = 0.5,
    temperature_clip: Positive = 3.0,
    temperature_range: tuple[Positive, ...] = (0.05, 1.0),
    num_neighbours: Count = 200,
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
            --model.width 8 --projector_width 64 --epochs 4 --warmup_epochs 1 --batch_size 64

    Time: an accelerator; minutes of a CPU with a small network.

    Args:
        dataset: of images, in colour or grey.
        model: the encoder.
        imbalance: size of the smallest class over that of the largest, above 0, at most 1.
        train_size: takes the classes from that many of the training images; none takes all.
        seed: of the choice of images, the initialisation and the order.
        epochs: passes over the training set.
        batch_size: images per step; of each there are two views.
        learning_rate: of LARS, at its height.
        warmup_epochs: in which it rises; fewer than all epochs.
        weight_decay: of kernels.
        projector_width: of all three layers of the projector.
        temperature: of SimCLR and SogCLR, and where iSogCLR starts.
        rho: radius of the KL ball; larger means lower temperatures.
        gamma: weight of the newest visit in the moving average.
        temperature_step: of the temperatures' descent.
        temperature_momentum: weight of the newest gradient of a temperature.
        temperature_clip: bound of that gradient.
        temperature_range: lowest and highest temperature.
        num_neighbours: that vote; at most as many as there are training images.
        data_dir: a folder with DATASET.npz or a prepared TFDS set; none looks in the usual places
            and downloads.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and turn of epochs; a checkpoint per turn; at the end the tables `results`
        and `classes`, the figures `temperature_by_class`, `temperature_histogram` and `neighbours`,
        and the arrays `history`: iSogCLR's final temperatures and the labels, ``[N]``.
    """
    check_contrast(batch_size, (temperature,), temperature_range)
    if warmup_epochs >= epochs:
        raise StudyError(
            f"warmup_epochs must be from 0 to epochs - 1 = {epochs - 1}, got {warmup_epochs}."
        )
    splits = some_examples(read_images(dataset, data_dir), train_size, seed)
    part = long_tailed(splits, imbalance, np.random.default_rng(seed))
    labels = part["label"]
    network = models.ProjectedEncoder(
        model(None), models.ProjectionHead((projector_width,) * 2, projector_width)
    )
    check_batch_size(batch_size, len(labels))
    example = jnp.zeros((1, *part["image"].shape[1:]))
    check_network("model with projector_width", lambda: network.init(jax.random.key(0), example))
    variables = initial_variables(network, example, [seed], impl="rbg")
    params = variables["params"]
    stats = jax.tree.map(lambda array: array[0], variables.get("batch_stats", {}))
    steps_per_epoch = -(-len(labels) // batch_size)
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.01 if warmup_epochs else learning_rate,
        peak_value=learning_rate,
        warmup_steps=warmup_epochs * steps_per_epoch,
        decay_steps=epochs * steps_per_epoch,
        end_value=learning_rate / 1000,
    )
    methods = contrasts(
        temperature=temperature,
        starts=(temperature,),
        rho=rho,
        gamma=gamma,
        temperature_step=temperature_step,
        temperature_momentum=temperature_momentum,
        temperature_clip=temperature_clip,
        temperature_range=temperature_range,
    )
    check_losses(methods, 2 * batch_size)
    mean, std = augment.channel_statistics(part["image"])
    padded = len(labels) % batch_size > 0
    runs = [
        make_runs(
            method,
            of_views(method, embedding(network, mean, std, padded=padded)),
            lars(schedule, weight_decay),
            params,
            {name: values[None] for name, values in part.items()},
            lambda start: new_table(len(labels), start, labels),
            [seed],
            extra=jax.tree.map(lambda leaf: leaf[None], stats),
        )
        for method in methods
    ]

    def describe(method, state):
        temperatures = np.asarray(state.tables.values.temperature[0])
        found = {"temperature": float(temperatures.mean())}
        if method.name == "isogclr":
            found["spearman"] = float(
                correlations(temperatures, labels[None], splits.num_classes)[0]
            )
        return found

    states = yield from train_in_turns(
        methods,
        runs,
        describe,
        shape=(1, len(labels)),
        first_seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        every=max(epochs // TURNS, 1),
        resume=resume,
    )
    features = [features_of(network, state, part, splits.test, mean, std) for state in states]
    yield Artifact("results", _results(methods, states, features, labels, splits, num_neighbours))
    temperatures = np.asarray(states[-1].tables.values.temperature[0, 0])
    yield Artifact("classes", _classes(temperatures, labels, splits))
    source = f"{name_of_choice(dataset)}{', generated' * splits.generated}"
    about = f"{source}, imbalance {imbalance:g}, rho {rho:g}"
    yield Artifact(
        "temperature_by_class",
        by_class_figure(temperatures[None], labels[None], splits.num_classes, about),
    )
    yield Artifact("temperature_histogram", histogram_figure({"iSogCLR": temperatures}, about))
    near = np.asarray(unit(features[-1][0]))
    yield Artifact("neighbours", neighbours_figure(part["image"], near, temperatures, about))
    yield Artifact("history", {"temperatures": temperatures, "labels": labels})


def long_tailed(
    splits: data.Splits, imbalance: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Training images, of class k ``n * imbalance ** (k / (K - 1))``, with rows of their own."""
    labels, last = splits.train["label"], splits.num_classes - 1
    counts = np.bincount(labels, minlength=splits.num_classes)
    kept = []
    for label, count in enumerate(counts):
        size = max(int(count * imbalance ** (label / last)), 1)
        kept.append(rng.permutation(np.flatnonzero(labels == label))[:size])
    rows = np.sort(np.concatenate(kept))
    part = {name: splits.train[name][rows] for name in ("image", "label")}
    return part | {"index": np.arange(len(rows), dtype=np.int32)}


def lars(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """LARS for kernels; scales, shifts and biases get plain momentum."""

    def kernels(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.lars(schedule, weight_decay, kernels, trust_ratio_mask=kernels, momentum=0.9)


def embedding(
    network: models.ProjectedEncoder, mean: np.ndarray, std: np.ndarray, *, padded: bool
) -> Embed:
    """Two views of each image, their embeddings, and new batch statistics.

    Args:
        network: encoder and projector.
        mean: of each channel.
        std: likewise.
        padded: whether batches have padding, which must not enter the batch statistics.
    """

    def embed(params, stats, batch, key):
        views = [augment.simclr_view(one, batch["image"]) for one in jax.random.split(key)]
        images = augment.to_float(jnp.concatenate(views), mean, std)
        mask = jnp.tile(batch["mask"], 2) if padded else None
        (_, embeddings), updated = network.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mask=mask,
            mutable=["batch_stats"],
        )
        return unit(embeddings).reshape(2, -1, embeddings.shape[-1]), updated["batch_stats"]

    return embed


def features_of(
    network: models.ProjectedEncoder,
    state: PyTree,
    part: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    mean: np.ndarray,
    std: np.ndarray,
) -> list[jax.Array]:
    """The encoder's features of training and test images, ``[N, D]``."""
    variables = {"params": state.params, "batch_stats": state.extra}
    variables = jax.tree.map(lambda leaf: leaf[0, 0], variables)

    @jax.jit
    def encode(variables, images):
        return in_chunks(
            lambda some: network.apply(variables, augment.to_float(some, mean, std))[0], images
        )

    return [encode(variables, jnp.asarray(images)) for images in (part["image"], test["image"])]


def _results(
    methods: Sequence[Contrast],
    states: Sequence[PyTree],
    features: Sequence[Sequence[jax.Array]],
    labels: np.ndarray,
    splits: data.Splits,
    num_neighbours: int,
) -> list[dict[str, Any]]:
    """A line per method: accuracies on the test images, temperatures."""
    num_classes, test = splits.num_classes, jnp.asarray(splits.test["label"])
    lines = []
    for method, state, (here, there) in zip(methods, states, features, strict=True):
        probe = evaluation.fit_linear_probe(
            standardized(here, here), jnp.asarray(labels), num_classes=num_classes, l2=PROBE_L2
        )
        found = {
            "probe accuracy %": evaluation.probe_scores(probe, standardized(there, here)),
            "kNN accuracy %": evaluation.knn_scores(
                unit(there),
                unit(here),
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
        temperatures = np.asarray(state.tables.values.temperature[0])
        line["mean temperature"] = float(temperatures.mean())
        individual = method.name == "isogclr"
        line["spearman"] = (
            float(correlations(temperatures, labels[None], num_classes)[0]) if individual else None
        )
        lines.append(line)
    return lines


def _classes(
    temperatures: np.ndarray, labels: np.ndarray, splits: data.Splits
) -> list[dict[str, Any]]:
    """A line per class: how many images it has, and their mean temperature."""
    counts = class_counts(labels[None], splits.num_classes)[0]
    means = class_means(temperatures[None], labels[None], splits.num_classes)[0]
    names = splits.class_names or [str(label) for label in range(splits.num_classes)]
    return [
        {"class": name, "examples": int(count), "temperature": float(mean)}
        for name, count, mean in zip(names, counts, means, strict=True)
    ]
