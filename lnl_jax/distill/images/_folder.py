"""Images of a folder in three parts, streamed: all that is in memory are their names."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lnl_jax import data
from lnl_jax._files import read_bytes
from lnl_jax.distill.images._patches import random_images
from lnl_jax.distill.training import (
    NetworkTraining,
    resumable,
    step_with,
    train_in_passes,
)


class FolderParts(NamedTuple):
    """Real images, of which nothing but names and classes is in memory.

    Attributes:
        train: what is trained on and distilled.
        validation: of the same folders, held out; what is chosen is chosen on them.
        test: the folder ``val``.
        names: of the K classes, in words.
        skipped: a line for each file that is not used.
    """

    train: data.ImageFolder
    validation: data.ImageFolder
    test: data.ImageFolder
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def percent_right(
        self, predicts: Sequence[Callable[[Any], jax.Array]], reading: "Reading"
    ) -> np.ndarray:
        """Accuracies of several networks on validation and test, ``[networks, 2]``."""
        parts = (self.validation, self.test)
        return 100 * np.array([folder_accuracies(predicts, part, reading) for part in parts]).T


class Reading(NamedTuple):
    """How images come from the disk.

    Attributes:
        size: rows and columns.
        batch_size: images in a batch.
        num_threads: that decode.
    """

    size: int
    batch_size: int
    num_threads: int


def folder_parts(
    folder: str,
    *,
    class_names: str | None,
    validation_per_class: int,
    seed: int,
    skip_unreadable: bool = False,
    num_threads: int = 4,
) -> FolderParts:
    """The parts of a folder with ``train/CLASS/*.JPEG`` and ``val/CLASS/*.JPEG``.

    Args:
        folder: the folder.
        class_names: a file of lines ``CLASS words, other words``; only what is before the first
            comma is used. None takes the names of the folders, with spaces for underscores.
        validation_per_class: training images of each class that are held out.
        seed: of which ones.
        skip_unreadable: leaves out images that cannot be decoded; else they are an error, before
            anything is trained where there are few enough to look at, as `data.readable` has it.
        num_threads: that look.

    Returns:
        The parts.

    Raises:
        FileNotFoundError: if the folder, a part of it or the file of names is missing.
        ValueError: if the classes do not fit, one has too few images, or an image is broken.
    """
    whole, test = data.train_and_val(folder)
    names = tuple(name.replace("_", " ") for name in whole.classes)
    if class_names is not None:
        names = _words(class_names, whole.classes)
    looks = {"skip_unreadable": skip_unreadable, "num_threads": num_threads}
    (whole, broken), (test, broken_test) = (data.readable(one, **looks) for one in (whole, test))
    least = np.bincount(whole.label).min()
    if not 1 <= validation_per_class < least:
        raise ValueError(
            f"validation_per_class must be from 1 to {least - 1}, less than the {least} training "
            f"images of the smallest class; got {validation_per_class}."
        )
    rng = np.random.default_rng((seed, 3))
    held = random_images(whole.label, validation_per_class, rng)
    rest = np.setdiff1d(np.arange(len(whole.files)), held)
    skipped = whole.skipped + broken + test.skipped + broken_test
    return FolderParts(whole.take(rest), whole.take(held), test, names, skipped)


def _words(path: str, classes: Sequence[str]) -> tuple[str, ...]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"class_names: there is no file {path}.")
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"class_names: {path} is not UTF-8 ({error}); convert it.") from None
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    words = {line[0]: line[1].split(",")[0].strip() for line in lines if len(line) == 2}
    missing = [name for name in classes if not words.get(name)]
    if missing:
        raise ValueError(
            f"class_names: {path} has no words for {', '.join(missing[:5])}"
            f"{' and others' * (len(missing) > 5)}; each line is CLASS and its words."
        )
    return tuple(words[name] for name in classes)


def skipped_table(skipped: Sequence[str]) -> list[dict[str, str]]:
    """What was left out, as a table; its length is the count.

    Args:
        skipped: a line for each image.

    Returns:
        A row for each.
    """
    return [{"skipped": line} for line in skipped]


def cropped_pass(
    part: data.ImageFolder,
    reading: Reading,
    seed: int,
    number: int,
    steps: slice = slice(None),  # noqa: B008
) -> Iterator[dict[str, np.ndarray]]:
    """A pass over random parts of all images in random order: a function of seed and number.

    Args:
        part: the images.
        reading: how they are read.
        seed: of order and crops.
        number: of the pass.
        steps: which of its batches; all by default.

    Yields:
        Batches with `image`, bytes ``[B, size, size, 3]``, `label`, `index` and `mask`.
    """
    rows = {
        "image": data.CroppedImages(part.files, reading.size, (seed, number)),
        "label": part.label,
        "index": np.arange(len(part.files)),
    }
    rng = np.random.default_rng((seed, number))
    plan = data.epoch_plan(len(part.files), reading.batch_size, rng)
    plan = {name: values[steps] for name, values in plan.items()}
    yield from data.stream(rows, plan, num_threads=reading.num_threads)


def steps_per_pass(part: data.ImageFolder, reading: Reading) -> int:
    """How many batches `cropped_pass` has.

    Args:
        part: the images.
        reading: how they are read.

    Returns:
        The number; the last one may be padded.
    """
    return -(-len(part.files) // reading.batch_size)


def folder_accuracies(
    predicts: Sequence[Callable[[Any], jax.Array]], part: data.ImageFolder, reading: Reading
) -> list[float]:
    """Of several networks on the middles of all images of a part, which are decoded once.

    Args:
        predicts: images ``[B, H, W, 3]`` from 0 to 1 to scores.
        part: the images.
        reading: how they are read.

    Returns:
        Fractions.
    """
    rows: Mapping = {
        "image": data.MiddleImages(part.files, reading.size),
        "label": part.label,
        "index": np.arange(len(part.files)),
    }
    plan = data.epoch_plan(len(part.files), reading.batch_size)
    right = np.zeros(len(predicts))
    for batch in data.stream(rows, plan, num_threads=reading.num_threads):
        images = jax.device_put(batch["image"] / np.float32(255))
        for index, scores in enumerate(jax.device_get([of(images) for of in predicts])):
            right[index] += ((scores.argmax(-1) == batch["label"]) & batch["mask"]).sum()
    return (right / len(part.files)).tolist()


def folder_start(
    learn: NetworkTraining,
    parts: FolderParts,
    reading: Reading,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    passed: int = 0,
) -> dict[str, Any]:
    """Where a training on a folder begins, in the form of all that it takes to go on with it.

    Args:
        learn: the network.
        parts: the images.
        reading: how they are read.
        epochs: passes.
        learning_rate: the first.
        seed: of the state's key.
        passed: how many passes were made; for the form of what an interrupted training left.

    Returns:
        As of `training.resumable`.
    """
    steps = epochs * steps_per_pass(parts.train, reading)
    return resumable(learn, learning_rate=learning_rate, steps=steps, seed=seed, passed=passed)


def train_on_folder(
    learn: NetworkTraining,
    start: Mapping[str, Any],
    parts: FolderParts,
    reading: Reading,
    *,
    epochs: int,
    seed: int,
) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any]]]:
    """Trains a network on random parts of all training images, pass by pass.

    Args:
        learn: the network.
        start: of `folder_start`, or what was yielded with an earlier pass.
        parts: the images; those of validation measure it after the last pass.
        reading: how they are read.
        epochs: passes in all.
        seed: of order and crops.

    Yields:
        After each pass its row, ``{"epoch", "loss"}`` and at the end ``accuracy``, a fraction; and
        all that it takes to go on, from which `training.kept_variables` takes the result. After
        some steps within a long pass None in place of a row.
    """
    rows = train_in_passes(
        step_with(learn.loss, learn.constants),
        start,
        functools.partial(cropped_pass, parts.train, reading, seed),
        passes=epochs,
        steps_per_pass=steps_per_pass(parts.train, reading),
        keep=learn.keep,
    )
    for row, found in rows:
        if row is None:
            yield None, found
            continue
        line = {"epoch": row["epoch"], "loss": float(row["loss"])}
        if row["epoch"] == epochs:
            last = learn.network(found["state"].params, found["state"].extra)
            line["accuracy"] = folder_accuracies([last], parts.validation, reading)[0]
        yield line, found
