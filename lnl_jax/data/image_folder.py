"""Images in a folder for each class, decoded and cropped when asked for: ImageNet's layout."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnl_jax._files import read_bytes
from lnl_jax._host_arguments import check_integer, check_number, check_seed
from lnl_jax.data.decoding import Place, decode, middle, part

ENDINGS = (".jpeg", ".jpg", ".png", ".webp")
LAYOUT = "it takes CLASS/*.JPEG (also .jpg, .png and .webp)"
PARTS = "it takes train/CLASS/*.JPEG and val/CLASS/*.JPEG (also .jpg, .png and .webp)"
LISTED = 5


class MiddleImages:
    """The middles of images in one size, decoded when they are indexed, as memory maps are.

    Images are turned upright as their EXIF orientation says.

    Args:
        files: paths of N images.
        size: rows and columns.
    """

    def __init__(self, files: Sequence[str], size: int) -> None:
        check_integer("size", size, at_least=1)
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images at some positions, uint8, ``[B, size, size, 3]``.

        Raises:
            ValueError: if one cannot be decoded; names it.
        """
        return np.stack([self._decoded(self.files[position]) for position in positions])

    def _decoded(self, file: str) -> np.ndarray:
        return decode(read_bytes(file), file, lambda image: middle(image, self.size))


class CroppedImages:
    """Random parts of images in one size, decoded and cut when they are indexed.

    The area of a part is uniform from `min_area` to 1, the ratio of its sides log-uniform from
    ``1 / max_ratio`` to `max_ratio` (sides are cut at the image, where torchvision draws again),
    its place uniform. What is drawn depends on the seed and the position alone: threads and
    interruptions change nothing, and another pass takes another seed. Images are first turned
    upright as their EXIF orientation says.

    Args:
        files: paths of N images.
        size: rows and columns.
        seed: of the parts, one integer or several, such as ``(seed, epoch)``.
        crops: of each image; None for one, without an axis for it.
        min_area: of a part, as a fraction of the image.
        max_ratio: of the longer to the shorter side, in pixels; 1 cuts squares.
        flip_rate: of the parts that are mirrored.

    Raises:
        ValueError: if a number is out of range.

    References:
        Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), section 6.
    """

    def __init__(
        self,
        files: Sequence[str],
        size: int,
        seed: int | Sequence[int],
        *,
        crops: int | None = None,
        min_area: float = 0.08,
        max_ratio: float = 4 / 3,
        flip_rate: float = 0.5,
    ) -> None:
        check_integer("size", size, at_least=1)
        check_seed("seed", seed)
        if crops is not None:
            check_integer("crops", crops, at_least=1)
        check_number("min_area", min_area, above=0, at_most=1)
        check_number("max_ratio", max_ratio, at_least=1)
        check_number("flip_rate", flip_rate, at_least=0, at_most=1)
        self.files, self.size, self.crops = files, size, crops
        self.seed = tuple(np.atleast_1d(seed).tolist())
        self.min_area, self.max_ratio, self.flip_rate = min_area, max_ratio, flip_rate

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Parts of the images at some positions, uint8.

        Returns:
            ``[B, size, size, 3]``, or ``[B, crops, size, size, 3]``.

        Raises:
            ValueError: if an image cannot be decoded; names it.
        """
        found = np.stack([self._decoded(int(position)) for position in positions])
        return found[:, 0] if self.crops is None else found

    def _decoded(self, position: int) -> np.ndarray:
        rng = np.random.default_rng((*self.seed, position))
        file = self.files[position]

        def cut(image):
            parts = [part(image, self._box(rng, *image.size), self.size) for _ in range(count)]
            return np.stack([self._mirrored(rng, np.asarray(one)) for one in parts])

        count = 1 if self.crops is None else self.crops
        return decode(read_bytes(file), file, cut)

    def _box(self, rng: np.random.Generator, width: int, height: int) -> tuple[float, ...]:
        area = rng.uniform(self.min_area, 1) * width * height
        ratio = self.max_ratio ** rng.uniform(-1, 1)
        columns = min(np.sqrt(area * ratio), width)
        rows = min(np.sqrt(area / ratio), height)
        left, top = rng.uniform(0, 1, 2) * (width - columns, height - rows)
        return left, top, left + columns, top + rows

    def _mirrored(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        return image[:, ::-1] if rng.random() < self.flip_rate else image


class ImageFolder(NamedTuple):
    """Images of a folder, and their classes.

    Attributes:
        files: N paths, class by class.
        label: int32, ``[N]``, the number of the class among the sorted names.
        classes: K names of folders, sorted.
        skipped: what else is there, a line each: its name, and why it is not used.
    """

    files: tuple[str, ...]
    label: np.ndarray
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    @property
    def places(self) -> list[Place]:
        """Where the bytes of the images are."""
        return [Place(Path(file), file) for file in self.files]

    def take(self, rows: Sequence[int] | np.ndarray) -> "ImageFolder":
        """Some of the images.

        Args:
            rows: their positions.

        Returns:
            The `ImageFolder` of these, with all classes; no image is read.
        """
        files = tuple(self.files[row] for row in rows)
        return self._replace(files=files, label=self.label[rows])


def image_folder(folder: str | os.PathLike[str]) -> ImageFolder:
    """The images of a folder that has a folder for each class.

    Only names are read here. Other files than images (``.jpeg``, ``.jpg``, ``.png``, ``.webp``, in
    any case) and folders in those of the classes are named in `skipped`; what begins with a dot is
    passed over.

    Args:
        folder: has ``CLASS/*.JPEG``.

    Returns:
        `ImageFolder`.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has fewer than two classes, a class has no image, or a name is not in
            UTF-8; names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: {LAYOUT}.")
    entries = _visible(folder)
    classes = [entry.name for entry in entries if _is_folder(entry)]
    others = [entry for entry in entries if not _is_folder(entry)]
    skipped = [f"{entry.path}: in no folder of a class" for entry in others]
    if len(classes) < 2:
        raise ValueError(f"{folder} has {len(classes)} folders of classes, 2 are needed: {LAYOUT}.")
    files, sizes = [], []
    for name in classes:
        entries = _visible(folder / name)
        found = [entry.path for entry in entries if _is_image(entry)]
        skipped += [f"{entry.path}: {_other(entry)}" for entry in entries if not _is_image(entry)]
        if not found:
            inner = [entry.name for entry in entries if _is_folder(entry)]
            itself = f"; if {inner[0]} is a class, give {folder / name}" if inner else ""
            raise ValueError(f"{folder / name} has no image: {LAYOUT}{itself}.")
        files += found
        sizes.append(len(found))
    label = np.repeat(np.arange(len(classes), dtype=np.int32), sizes)
    return ImageFolder(tuple(files), label, tuple(classes), tuple(skipped))


def train_and_val(folder: str | os.PathLike[str]) -> tuple[ImageFolder, ImageFolder]:
    """The two parts of ImageNet as it is usually laid out.

    Args:
        folder: has ``train/CLASS/*.JPEG`` and ``val/CLASS/*.JPEG``.

    Returns:
        Training and validation images.

    Raises:
        FileNotFoundError: if there is no such folder, or no part in it.
        ValueError: if a part has no classes, or the classes of the parts differ; names some.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: {PARTS}.")
    for name in ("train", "val"):
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"there is no folder {folder / name}: {PARTS}.")
    train, val = (image_folder(folder / name) for name in ("train", "val"))
    if train.classes != val.classes:
        alone = [
            f"only in {name} are {_some(set(one.classes) - set(other.classes))}"
            for name, one, other in (("train", train, val), ("val", val, train))
        ]
        raise ValueError(f"the classes of {folder} differ: {'; '.join(alone)}.")
    return train, val


def _visible(folder: Path) -> list[os.DirEntry]:
    shown = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    for entry in shown:
        # Python keeps other bytes of a name as halves of characters, which cannot be printed.
        if any("\ud800" <= character <= "\udfff" for character in entry.name):
            raise ValueError(f"{folder}: {entry.name!a} is not named in UTF-8; rename it.")
    return sorted(shown, key=lambda entry: entry.name)


def _is_image(entry: os.DirEntry) -> bool:
    return entry.name.lower().endswith(ENDINGS) and not _is_folder(entry)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself; whoever reads it says so.
        return False


def _other(entry: os.DirEntry) -> str:
    return "a folder in that of a class" if _is_folder(entry) else "no image by its name"


def _some(names: set[str]) -> str:
    listed = ", ".join(sorted(names)[:LISTED]) or "none"
    more = len(names) - LISTED
    return f"{listed} and {more} more" if more > 0 else listed
