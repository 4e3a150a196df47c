"""Any set of images or features that TensorFlow Datasets has prepared on this machine."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import brief
from lnl_jax.data.dataset import PARTS, Splits, splits_of
from lnl_jax.data.decoding import middle
from lnl_jax.data.npz import check_folder
from lnl_jax.data.prepared import default_folder, find_prepared

SHOWN = 12


def prepared_set(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    inputs: str | None = None,
    label: str = "label",
    test: str = "test",
    size: int | None = None,
) -> Splits:
    """A set that TensorFlow Datasets prepared as array records, read without TensorFlow.

    Where it kept an ``id`` the examples are put in order of it, so that an index means the same
    example in every copy of the set.

    Args:
        name: of the set, such as ``"iris"``.
        data_dir: where it was prepared; None takes the folder of TensorFlow Datasets.
        inputs: the key of the images or of the features, which are flattened; None takes
            ``image``, else the only other key of numbers.
        label: the key of the given classes.
        test: the split that tests; the split ``train`` trains.
        size: rows and columns to which images are resized; None keeps those of one size.

    Returns:
        `Splits` with labels that are `given`.

    Raises:
        FileNotFoundError: if no set of this name is prepared there.
        ValueError: if a split or key is missing, or images are of several sizes; names it.
    """
    folder = default_folder() if data_dir is None else check_folder(data_dir)
    found = find_prepared(folder, name)
    if found is None:
        raise FileNotFoundError(
            f"no set {name!r} is prepared in {folder}: tfds.builder({name!r}, "
            f"data_dir=..., file_format='array_record').download_and_prepare() does it."
        )
    require("tensorflow_datasets")
    import tensorflow_datasets as tfds

    # Reads the very folder that was found, whatever version the code of the package has.
    with _readable(found):
        builder = tfds.builder_from_directory(os.fspath(found))
    arrays: dict[str, np.ndarray] = {}
    for part, split in zip(PARTS, ("train", test), strict=True):
        if split not in builder.info.splits:
            raise ValueError(
                f"{found} has no split {split!r}, it has {', '.join(builder.info.splits)}."
            )
        with _readable(found):
            examples = list(builder.as_data_source(split=split))
        if examples and "id" in examples[0]:
            examples.sort(key=lambda example: example["id"])
        arrays |= _arrays(examples, part, inputs, label, size, found)
    names = tuple(getattr(builder.info.features[label], "names", None) or ())
    try:
        return splits_of(arrays, class_names=names)._replace(given=True)
    except ValueError as error:
        raise ValueError(f"{found}: {error}") from None


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Makes a ValueError of what the package says of a set."""
    try:
        yield
    except NotImplementedError as error:
        raise ValueError(
            f"{folder} is no set of array records ({error}): prepare it with "
            "file_format='array_record'."
        ) from None
    # What is damaged makes the package raise nearly anything.
    except Exception as error:
        reason = brief(" ".join(str(error).split()), 300)
        raise ValueError(f"{folder} cannot be read ({reason}); prepare the set again.") from None


def _arrays(
    examples: list[dict[str, Any]],
    part: str,
    inputs: str | None,
    label: str,
    size: int | None,
    source: Path,
) -> dict[str, np.ndarray]:
    if not examples:
        raise ValueError(f"{source} has no example in its {part} part; prepare it again.")
    keys = list(examples[0])
    inputs = _inputs_key(examples[0], label) if inputs is None else inputs
    for key in (label, inputs):
        if key not in keys:
            shown = ", ".join(keys[:SHOWN])
            raise ValueError(
                f"{source} has no key {key!r}; name the inputs and the label: {shown}."
            )
    values = [np.asarray(example[inputs]) for example in examples]
    if values[0].ndim == 3 and size is not None:
        values = [_resized(image, size) for image in values]
    elif values[0].ndim != 3:
        values = [np.ravel(value) for value in values]
    shapes = sorted({value.shape for value in values})
    if len(shapes) > 1:
        raise ValueError(
            f"{source}: {inputs} has several sizes, {shapes[0]} and {shapes[-1]} among them; give "
            "size, to which images are resized."
        )
    labels = np.array([example[label] for example in examples])
    return {f"x_{part}": np.stack(values), f"y_{part}": labels}


def _inputs_key(example: dict[str, Any], label: str) -> str:
    if "image" in example:
        return "image"
    numbers = [
        key
        for key, value in example.items()
        if key not in (label, "id") and np.asarray(value).dtype.kind in "biuf"
    ]
    if len(numbers) != 1:
        shown = ", ".join(numbers[:SHOWN]) or "none"
        raise ValueError(f"inputs must be named, one of the keys of numbers: {shown}.")
    return numbers[0]


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    require("PIL")
    from PIL import Image

    gray = image.shape[-1] == 1
    found = middle(Image.fromarray(image[..., 0] if gray else image), size)
    return np.asarray(found).reshape(size, size, -1)
