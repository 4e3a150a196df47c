"""The image protocol of the LDR paper: CIFAR with made label noise, or generated images."""

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np

from lnl_jax import data, models
from lnl_jax import noise as label_noise
from lnl_jax.comparison.catalogue import (
    AUGMENTATIONS_OR_DEFAULT,
    IMAGE_SETS,
    LOSSES,
    MODELS,
    NORMALIZATIONS,
    SUPPLIED,
    Loss,
    Normalization,
)
from lnl_jax.comparison.image_networks import crop_and_flip, unaugmented
from lnl_jax.comparison.images import compare_on_images
from lnl_jax.comparison.noisy_images import (
    NoisyImages,
    check_first_folds,
    class_matrix,
    name_of_choice,
    read_images,
)
from lnl_jax.noise import corrupt
from lnl_jax.runner.arguments import (
    Count,
    Folds,
    NotNegative,
    Positive,
    PositiveShare,
    Precision,
    Seed,
    Share,
    StudyError,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

# The paper's protocol; and what is smaller on generated images, for some minutes on a CPU.
PAPER = {
    "model": models.resnet18,
    "augmentation": crop_and_flip,
    "epochs": 30,
    "batch_size": 64,
    "learning_rates": (0.1, 0.01, 0.001),
    "temperatures": (0.1, 1.0, 10.0),
    "qs": (0.05, 0.7, 0.95),
    "weight_decay": 5e-3,
    "first_folds": None,
}
SMALL = PAPER | {
    "model": functools.partial(models.convnet, width=16),
    "augmentation": unaugmented,
    "batch_size": 32,
    "learning_rates": (0.1,),
    "temperatures": (10.0,),
    "qs": (0.7,),
    "weight_decay": 0.0,
    "first_folds": 1,
}


def uniform(splits: data.Splits, rate: float, rng: np.random.Generator) -> np.ndarray:
    """A fraction of the labels is drawn again over all classes."""
    del rng
    return label_noise.symmetric(splits.num_classes, rate, include_self=True)


def cyclic(splits: data.Splits, rate: float, rng: np.random.Generator) -> np.ndarray:
    """A fraction of the labels becomes the next class, the paper's class-dependent noise."""
    del rng
    mapping = label_noise.cyclic(splits.num_classes)
    return label_noise.class_dependent(splits.num_classes, rate, mapping)


def asymmetric(splits: data.Splits, rate: float, rng: np.random.Generator) -> np.ndarray:
    """CIFAR-10's classes that look alike: truck, bird, deer, cat and dog become another."""
    del rng
    if splits.num_classes != 10:
        raise StudyError(
            f"noise asymmetric is about the 10 classes of cifar10; the data set has "
            f"{splits.num_classes}: use cyclic."
        )
    return label_noise.cifar10_asymmetric(rate)


def instance_dependent(splits: data.Splits, rate: float, rng: np.random.Generator) -> np.ndarray:
    """A label falls for the class that a random direction of its image points to."""
    features = splits.train["image"].reshape(len(splits.train["label"]), -1) / np.float32(255)
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    labels = splits.train["label"]
    return label_noise.instance_dependent(features, labels, splits.num_classes, rate, rng)


def none(splits: data.Splits, rate: float, rng: np.random.Generator) -> np.ndarray:
    """The labels stay as they were given, for those that are noisy already."""
    del rate, rng
    return np.eye(splits.num_classes)


NOISES: dict[str, Callable] = {
    "none": none,
    "uniform": uniform,
    "cyclic": cyclic,
    "asymmetric": asymmetric,
    "instance_dependent": instance_dependent,
}


@study
def ldr_cifar(
    *,
    dataset: Annotated[Callable, IMAGE_SETS] = data.cifar100,
    model: Annotated[Callable | None, MODELS] = None,
    loss: Annotated[Loss | None, LOSSES, SUPPLIED] = None,
    normalize: Annotated[Normalization | None, NORMALIZATIONS] = None,
    noise: Annotated[Callable, NOISES] = uniform,
    noise_rate: Share = 0.6,
    augmentation: Annotated[Callable | None, AUGMENTATIONS_OR_DEFAULT] = None,
    folds: Folds = 5,
    first_folds: Count | None = None,
    train_size: Count | None = None,
    seed: Seed = 0,
    epochs: Count | None = None,
    batch_size: Count | None = None,
    learning_rates: tuple[Positive, ...] | None = None,
    temperatures: tuple[Positive, ...] | None = None,
    qs: tuple[PositiveShare, ...] | None = None,
    margin: NotNegative = 0.1,
    weight_decay: NotNegative | None = None,
    precision: Precision = jnp.float32,
    shard_tables: bool = False,
    streamed: bool | None = None,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """LDR-KL, ALDR-KL, GCE and cross-entropy on images with noisy labels: the paper's protocol.

    Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML 2023),
    the tables of images. The labels of the training images are corrupted, and the images drawn into
    five folds, classes in proportion, each of which validates once (contiguous folds in the paper).
    A ResNet-18 is trained for 30 epochs by SGD with momentum 0.9, weight decay 5e-3 and batches of
    64; the learning rate falls tenfold at a third and at two thirds. Learning rate (0.1, 0.01,
    0.001) and hyperparameter (temperatures 0.1, 1, 10; q 0.05, 0.7, 0.95) are those with the best
    mean accuracy on noisy validation labels; reported is the accuracy on clean test labels after
    the last epoch, mean and deviation over the folds.

    That is a matter of an accelerator. On generated images (shapes32) what is not given is smaller,
    for a CPU: a ConvNet of width 16, one fold, one learning rate, temperature and q.
        python experiments/run.py --exp ldr_cifar --dataset shapes32
        python experiments/run.py --exp ldr_cifar --dataset cifar10 --data_dir DIR --model resnet8

    Time: an accelerator; minutes of a CPU with --dataset shapes32.

    Result: with shapes32 cross-entropy 41.8%, GCE 67.7, LDR-KL 63.1, ALDR-KL 68.8;
    docs/results/ldr_cifar_shapes32, made by commit 3287748. The paper's networks were not trained.

    Args:
        dataset: of images.
        model: the network; none means resnet18, or a small ConvNet on generated images.
        loss: compares this one with cross-entropy; none compares cross-entropy, GCE, LDR-KL and
            ALDR-KL.
        normalize: what the logits go through before the loss, except for cross-entropy; default
            means softplus_mean for ldr_kl and, with 100 classes, aldr_kl; l1_mean for aldr_kl
            otherwise, as in the official code, and nothing for other losses; none means the scores
            as they are.
        noise: which labels become false.
        noise_rate: how many of them, from 0 to 1; see the choices.
        augmentation: of the training images; default means crop_and_flip, or none on generated
            images.
        folds: parts of the training set, at least 2.
        first_folds: how many of the folds are run; none runs all.
        train_size: keeps that many of the training images, classes in proportion; none keeps all.
        seed: of the choice of images, the noise, the folds, the initialisation and the order.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        temperatures: to choose from, for ldr_kl and aldr_kl.
        qs: to choose from, for generalized_cross_entropy.
        margin: of ldr_kl and aldr_kl, unless it is set on the loss.
        weight_decay: added to the gradient, for all parameters.
        precision: in which the network computes: bfloat16 is for accelerators.
        shard_tables: whether what a loss keeps of each example is split over the devices too.
        streamed: whether the images stay in the memory of the host and batches of them are streamed
            to the device, with the same numbers; none streams images that take more than half of
            its free memory.
        data_dir: a folder with DATASET.npz or a prepared TFDS set; none looks in the usual places
            and downloads.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best on validation at that time; a
        checkpoint per epoch; at the end the tables `results`, `temperatures` and `protocol`, the
        figures `curves`, `temperature_histogram` and `suspicious` and the arrays `history`, a
        value per metric, epoch, fold and setting.
    """
    check_first_folds(first_folds, folds)
    splits = read_images(dataset, data_dir, train_size, seed)
    given = {"epochs": epochs, "batch_size": batch_size, "weight_decay": weight_decay}
    given |= {"learning_rates": learning_rates, "temperatures": temperatures, "qs": qs}
    given |= {"model": model, "first_folds": first_folds, "augmentation": augmentation}
    usual = SMALL if splits.generated else PAPER
    chosen = {name: usual[name] if value is None else value for name, value in given.items()}
    rng = np.random.default_rng(seed)
    matrix = noise(splits, noise_rate, rng)
    corrupted = corrupt(splits.train["label"], matrix, rng)
    matrix = class_matrix(matrix, splits.train["label"], splits.num_classes)
    what = "labels as they are"
    if noise is not none:
        changed = f"{corrupted.rate:.0%} of the labels changed"
        what = f"{noise_rate:.0%} {noise.__name__} noise, {changed}"
    yield from compare_on_images(
        NoisyImages(splits, corrupted.labels, matrix),
        **chosen,
        loss=loss,
        normalize=normalize,
        margin=margin,
        folds=folds,
        seed=seed,
        streamed=streamed,
        dtype=precision,
        shard_tables=shard_tables,
        source=name_of_choice(dataset),
        title=what,
        resume=resume,
    )
