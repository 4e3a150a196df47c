"""Robust losses on CIFAR with the labels that people gave it."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np

from lnl_jax import data, models
from lnl_jax.comparison.catalogue import (
    AUGMENTATIONS,
    LOSSES,
    MODELS,
    NORMALIZATIONS,
    SUPPLIED,
    Loss,
    Normalization,
)
from lnl_jax.comparison.image_networks import crop_and_flip
from lnl_jax.comparison.images import compare_on_images
from lnl_jax.comparison.noisy_images import (
    NoisyImages,
    check_first_folds,
    class_matrix,
    name_of_choice,
    read_images,
)
from lnl_jax.runner.arguments import (
    Count,
    Folds,
    NotNegative,
    Positive,
    PositiveShare,
    Precision,
    Seed,
    StudyError,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

HUMAN_SETS: dict[str, Callable] = {"cifar10": data.cifar10, "cifar100": data.cifar100}
# Human labels, where no other are asked for.
USUAL_LABELS = ("worse", "noisy")


@study
def ldr_cifarn(
    *,
    dataset: Annotated[Callable, HUMAN_SETS] = data.cifar10,
    labels: str | None = None,
    model: Annotated[Callable, MODELS] = models.resnet18,
    loss: Annotated[Loss | None, LOSSES, SUPPLIED] = None,
    normalize: Annotated[Normalization | None, NORMALIZATIONS] = None,
    augmentation: Annotated[Callable, AUGMENTATIONS] = crop_and_flip,
    folds: Folds = 5,
    first_folds: Count | None = None,
    train_size: Count | None = None,
    seed: Seed = 0,
    epochs: Count = 30,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.01, 0.001),
    temperatures: tuple[Positive, ...] = (0.1, 1.0, 10.0),
    qs: tuple[PositiveShare, ...] = (0.05, 0.7, 0.95),
    margin: NotNegative = 0.1,
    weight_decay: NotNegative = 5e-3,
    precision: Precision = jnp.float32,
    shard_tables: bool = False,
    streamed: bool | None = None,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """LDR-KL, ALDR-KL, GCE and cross-entropy on CIFAR-10N or CIFAR-100N: human label noise.

    The protocol of `ldr_cifar`, with the labels of Wei et al., "Learning with Noisy Labels
    Revisited: A Study Using Real-World Human Annotations" (ICLR 2022), for training and validation:
    about 40% of them are false for `worse` and for CIFAR-100's `noisy`, 9% for `aggre`, 17% to 18%
    for `random1` to `random3`. They are published as pickles, which this project does not read: put
    them into the columns ``y_train_worse`` and so on of DIR/cifar10.npz.

    With a small network, for a CPU:
        python experiments/run.py --exp ldr_cifarn --data_dir DIR --model resnet8

    Time: an accelerator.

    Result: a small network alone was trained; docs/results/ldr_cifar10n_worse, made by commit
    d4dadec.

    Args:
        dataset: cifar10 or cifar100.
        labels: which human labels; none means worse for cifar10, noisy for cifar100.
        model: the network.
        loss: compares this one with cross-entropy; none compares cross-entropy, GCE, LDR-KL and
            ALDR-KL.
        normalize: what the logits go through before the loss, except for cross-entropy; default
            means each loss's own, as in ldr_cifar, none the scores as they are.
        augmentation: of the training images.
        folds: parts of the training set, at least 2.
        first_folds: how many of the folds are run; none runs all.
        train_size: keeps that many of the training images, classes in proportion; none keeps all.
        seed: of the choice of images, the folds, the initialisation and the order.
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
        data_dir: a folder with cifar10.npz or cifar100.npz that holds human labels.
        resume: where an interrupted run goes on.

    Yields:
        What `ldr_cifar` yields.
    """
    check_first_folds(first_folds, folds)
    splits = read_images(dataset, data_dir, train_size, seed)
    name = _column(splits.train, labels)
    noisy, clean = splits.train[f"label_{name}"], splits.train["label"]
    # What the corrections are told is counted with the clean labels, which nobody would have.
    matrix = class_matrix(np.eye(splits.num_classes)[noisy], clean, splits.num_classes)
    yield from compare_on_images(
        NoisyImages(splits, noisy, matrix),
        model=model,
        loss=loss,
        normalize=normalize,
        augmentation=augmentation,
        folds=folds,
        first_folds=first_folds,
        seed=seed,
        streamed=streamed,
        dtype=precision,
        shard_tables=shard_tables,
        source=name_of_choice(dataset),
        title=f"human labels '{name}', {(noisy != clean).mean():.0%} of them false",
        epochs=epochs,
        batch_size=batch_size,
        learning_rates=learning_rates,
        temperatures=temperatures,
        qs=qs,
        margin=margin,
        weight_decay=weight_decay,
        resume=resume,
    )


def _column(train: dict[str, np.ndarray], labels: str | None) -> str:
    """The name of the human labels to use.

    Raises:
        StudyError: if the data set has none, or not these.
    """
    there = [name.removeprefix("label_") for name in train if name.startswith("label_")]
    if not there:
        raise StudyError(
            "the data set has no human labels: add the columns y_train_worse and so on (CIFAR-10N) "
            "or y_train_noisy (CIFAR-100N) to the .npz in --data_dir."
        )
    wanted = [labels] if labels is not None else [*USUAL_LABELS, there[0]]
    for name in wanted:
        if name in there:
            return name
    raise StudyError(f"labels must be one of {', '.join(there)}, got {labels}.")
