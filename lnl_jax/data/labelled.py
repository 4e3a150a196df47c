"""Examples as somebody labelled them: which of the labels are right need not be known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lnl_jax._files import read_bytes
from lnl_jax.data.dataset import Splits
from lnl_jax.data.decoding import decode, middle
from lnl_jax.data.image_folder import image_folder
from lnl_jax.data.splits import hold_out


class Labelled(NamedTuple):
    """A data set of one part, with what a user calls its rows.

    Attributes:
        columns: ``image``, uint8, ``[N, H, W, C]``, or ``x``, float32, ``[N, D]``; ``label``,
            int32, the given ones; ``index``, from 0; ``clean_label`` where the truth is known.
        class_names: of each class.
        row: the number of each example in its file or folder, from 0, ``[N]``.
        files: paths of the images; empty where there are none.
        skipped: what is left out, a line each.
    """

    columns: dict[str, np.ndarray]
    class_names: tuple[str, ...]
    row: np.ndarray
    files: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)


def labelled_folder(folder: str, *, size: int = 32, skip_unreadable: bool = False) -> Labelled:
    """The images of a folder that has a folder for each class, all in memory in one size.

    Args:
        folder: has ``CLASS/*.jpg`` (also .jpeg, .png and .webp).
        size: rows and columns; the square in the middle of each image is resized.
        skip_unreadable: leaves out images that cannot be decoded, and counts and lists them.

    Returns:
        `Labelled`; the folder's name is the given class.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has fewer than two classes, or an image cannot be decoded; names it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> folder = tempfile.TemporaryDirectory()
        >>> for name in ("cat/0.png", "dog/0.png"):
        ...     path = Path(folder.name, name)
        ...     path.parent.mkdir()
        ...     Image.new("RGB", (40, 30)).save(path)
        >>> found = labelled_folder(folder.name)
        >>> found.columns["image"].shape, found.class_names
        ((2, 32, 32, 3), ('cat', 'dog'))
        >>> folder.cleanup()
    """
    found = image_folder(folder)
    images, kept, skipped = read_images(found.files, size, skip_unreadable=skip_unreadable)
    counts = np.bincount(found.label[kept], minlength=len(found.classes))
    if not counts.all():
        name = found.classes[counts.argmin()]
        raise ValueError(f"no image of the class {name} can be decoded; leave it out.")
    columns = {"image": images, "label": found.label[kept]}
    files = tuple(found.files[row] for row in kept)
    return labelled(columns, found.classes, kept, files, (*found.skipped, *skipped))


def labelled(
    columns: dict[str, np.ndarray],
    class_names: Sequence[str],
    row: np.ndarray,
    files: Sequence[str] = (),
    skipped: Sequence[str] = (),
) -> Labelled:
    """Numbers the examples.

    Raises:
        ValueError: if there is one class alone; names it.
    """
    if len(class_names) < 2:
        raise ValueError(f"there must be at least 2 classes, got {', '.join(class_names)} alone.")
    columns = columns | {"index": np.arange(len(row), dtype=np.int32)}
    return Labelled(columns, tuple(class_names), np.asarray(row), tuple(files), tuple(skipped))


def read_images(
    files: Sequence[str],
    size: int,
    *,
    skip_unreadable: bool = False,
    names: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The middles of images in one size.

    Args:
        files: their paths.
        size: rows and columns.
        skip_unreadable: leaves out those that are missing or cannot be decoded.
        names: what to call them in messages; None takes the paths.

    Returns:
        uint8, ``[M, size, size, 3]``; which of the files they are, ``[M]``; a line for each that
        is left out.

    Raises:
        ValueError: for the first that is missing or cannot be decoded, unless they are skipped, or
            if none is left; names it and how many there are.
    """
    images, kept, wrong = [], [], []
    for position, file in enumerate(files):
        name = file if names is None else names[position]
        try:
            images.append(decode(read_bytes(file), name, lambda one: middle(one, size)))
            kept.append(position)
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error.strerror}).")
        except ValueError as error:
            wrong.append(str(error))
    if wrong and not (skip_unreadable and images):
        raise ValueError(
            f"{wrong[0]} Of {len(files)} images {len(wrong)} cannot be read; leave them out: "
            "skip_unreadable."
        )
    return np.stack(images), np.array(kept), tuple(wrong)


def hold_out_test(whole: Labelled, share: float = 0.2, seed: int = 0) -> Splits:
    """Splits off a test part: its labels are the true ones where they are known, else as given.

    Args:
        whole: the data set.
        share: of the examples to test on.
        seed: of their choice.

    Returns:
        `Splits` with labels that are `given`, unless there is a column ``clean_label``.

    Raises:
        ValueError: if the share leaves a side empty, or a class without example; names it.
    """
    rest, test = hold_out(whole.columns, share, np.random.default_rng(seed))
    parts = [
        part | {"index": np.arange(len(part["label"]), dtype=np.int32)} for part in (rest, test)
    ]
    given = "clean_label" not in whole.columns
    parts[1]["label"] = parts[1].get("clean_label", parts[1]["label"])
    return Splits(*parts, whole.num_classes, whole.class_names, given=given)
