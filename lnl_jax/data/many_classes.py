"""Sets of many classes: ALOI, Kuzushiji-49 and Tiny-ImageNet.

Each is taken from a user's file or folder first, then from the cache, ``$XDG_CACHE_HOME/lnl_jax``
or ``~/.cache/lnl_jax``, then from its public source, compared with a checksum where there is one.
"""

import functools
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lnl_jax._files import check_unpacked, opened, read_bytes
from lnl_jax.data.dataset import KEYS, PARTS, Splits, splits_of
from lnl_jax.data.decoding import decode
from lnl_jax.data.downloads import RemoteFile, check_connection, download
from lnl_jax.data.image_sets import cache_folder
from lnl_jax.data.npz import check_folder, load_npz, read_arrays, save_npz
from lnl_jax.data.tables import OpenMLTable, load_table

K49 = "https://codh.rois.ac.jp/kmnist/dataset/k49"
K49_FILES = {
    "x_train": ("k49-train-imgs.npz", "7ac088b20481cf51dcd01ceaab89d821"),
    "y_train": ("k49-train-labels.npz", "44a8e1b893f81e63ff38d73cad420f7a"),
    "x_test": ("k49-test-imgs.npz", "d352e201d846ce6b94f42c990966f374"),
    "y_test": ("k49-test-labels.npz", "4da6f7a62e67a832d5eb1bd85c5ee448"),
}
TINY = "tiny-imagenet-200"
TINY_ZIP = RemoteFile(
    f"http://cs231n.stanford.edu/{TINY}.zip",
    248_100_043,
    "",
    f"{TINY}.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
)
TINY_SIZE = 64


def aloi(data_dir: str | os.PathLike | None = None) -> Splits:
    """ALOI: 108,000 pictures of 1,000 objects as 128 colour features; no official parts.

    Args:
        data_dir: a folder that may hold ``aloi.npz``; None, or a folder without it, asks OpenML. A
            fifth of each class, drawn once and for all, is for testing where the file has no
            ``x_test``.

    Returns:
        `Splits` with ``x``, float32, ``[N, 128]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Geusebroek, Burghouts and Smeulders, "The Amsterdam Library of Object Images" (IJCV, 2005).
    """
    names = tuple(map(str, range(1_000)))
    return load_table(OpenMLTable("aloi", 42396, 128, (108_000, 0), names, names), data_dir)


def kuzushiji49(data_dir: str | os.PathLike | None = None) -> Splits:
    """Kuzushiji-49: 232,365 and 38,547 grey images of 49 hiragana, 28 by 28 pixels, unbalanced.

    Args:
        data_dir: a folder that may hold ``kuzushiji49.npz`` or the four official files,
            ``k49-train-imgs.npz`` and so on; None, or a folder without them, downloads these.

    Returns:
        `Splits` with ``image``, uint8, ``[N, 28, 28, 1]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Clanuwat et al., "Deep Learning for Classical Japanese Literature" (2018).
    """

    def read(folder: Path) -> Mapping[str, np.ndarray] | None:
        files = {key: folder / name for key, (name, _) in K49_FILES.items()}
        missing = [file.name for file in files.values() if not os.path.lexists(file)]
        if missing and len(missing) < len(files) and folder != cache_folder():
            raise ValueError(f"{folder} lacks {', '.join(missing)} of the four files of the set.")
        if missing:
            return None
        found = {}
        for key, file in files.items():
            arrays = read_arrays(folder, file.stem, "arr_0")[1]
            if "arr_0" not in arrays:
                raise ValueError(f"{file}: arr_0 is missing; there are {', '.join(arrays)}.")
            found[key] = arrays["arr_0"]
        return found

    def fetch(folder: Path) -> None:
        for name, md5 in K49_FILES.values():
            if not (folder / name).is_file():
                remote = RemoteFile(f"{K49}/{name}", 0, "", name, md5)
                download(remote, folder).rename(folder / name)

    return _images("kuzushiji49", data_dir, (28, 28, 1), 49, read, fetch, K49)


def tiny_imagenet(data_dir: str | os.PathLike | None = None) -> Splits:
    """Tiny-ImageNet: 100,000 and 10,000 colour images of 200 classes, 64 by 64 pixels.

    The official validation part is the test part here: that for testing has no labels.

    Args:
        data_dir: a folder that may hold ``tiny_imagenet.npz``, ``tiny-imagenet-200.zip`` or what is
            unpacked from it, the folder ``tiny-imagenet-200``; None, or a folder without them,
            downloads the archive.

    Returns:
        `Splits` with ``image``, uint8, ``[N, 64, 64, 3]``; classes as in ``wnids.txt``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Le and Yang, "Tiny ImageNet Visual Recognition Challenge" (CS231N report, 2015).
    """

    def read(folder: Path) -> Mapping[str, np.ndarray] | None:
        if (folder / TINY).is_dir():
            place = folder / TINY
            return _tiny(place, lambda name: read_bytes(place / name), _below(place))
        archive = folder / TINY_ZIP.name
        if not os.path.lexists(archive):
            return None
        with opened(archive) as file:
            members = _members(file, archive)
            names = [name.removeprefix(f"{TINY}/") for name in members.namelist()]
            return _tiny(archive, functools.partial(_unpacked, members), names)

    def fetch(folder: Path) -> None:
        download(TINY_ZIP, folder).rename(folder / TINY_ZIP.name)

    shape = (TINY_SIZE, TINY_SIZE, 3)
    return _images("tiny_imagenet", data_dir, shape, None, read, fetch, TINY_ZIP.url)


def _images(
    name: str,
    data_dir: str | os.PathLike | None,
    shape: tuple[int, int, int],
    num_classes: int | None,
    read: Callable[[Path], Mapping[str, np.ndarray] | None],
    fetch: Callable[[Path], None],
    url: str,
) -> Splits:
    folder = None if data_dir is None else check_folder(data_dir)
    cache = cache_folder()
    for place in [cache] if folder is None else [folder, cache]:
        if os.path.lexists(place / f"{name}.npz"):
            splits = load_npz(place, name, num_classes=num_classes)
            return _sized(splits, shape, place / f"{name}.npz")
        if place.is_dir() and (arrays := read(place)) is not None:
            return _sized(_split(arrays, num_classes, place), shape, place)
    try:
        check_connection(url)
        cache.mkdir(parents=True, exist_ok=True)
        fetch(cache)
    except (ConnectionError, ModuleNotFoundError) as error:
        raise FileNotFoundError(
            f"{name} is neither in {folder or 'data_dir'} nor in {cache} and cannot be downloaded "
            f"({error}). Give data_dir, a folder with {name}.npz (keys {', '.join(KEYS)}) or what "
            f"stands at {url}, or connect to the internet."
        ) from error
    arrays = read(cache)
    save_npz(cache / f"{name}.npz", arrays)
    return _sized(_split(arrays, num_classes, cache), shape, cache)


def _split(arrays: Mapping[str, np.ndarray], num_classes: int | None, place: Path) -> Splits:
    try:
        return splits_of(arrays, num_classes=num_classes)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _sized(splits: Splits, shape: tuple[int, int, int], source: Path) -> Splits:
    for part in PARTS:
        columns = getattr(splits, part)
        found = columns["image" if "image" in columns else "x"].shape[1:]
        if found != shape:
            raise ValueError(
                f"{source}: x_{part} must hold images of {shape}, got {found}; resize them, or "
                "read them as a set of your own, npz."
            )
    return splits


def _below(folder: Path) -> list[str]:
    return [str(file.relative_to(folder).as_posix()) for file in folder.rglob("*.*")]


def _tiny(
    source: Path, content: Callable[[str], bytes], names: Sequence[str]
) -> dict[str, np.ndarray]:
    try:
        classes = content("wnids.txt").decode().split()
        lines = content("val/val_annotations.txt").decode().splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{source} must hold wnids.txt, train/CLASS/images/*.JPEG, val/images/*.JPEG and "
            f"val/val_annotations.txt ({error}); get it again."
        ) from error
    number = {name: at for at, name in enumerate(classes)}
    train = sorted(one for one in names if one.startswith("train/") and one.endswith(".JPEG"))
    of_train = [one.split("/")[1] for one in train]
    test = [line.split("\t")[:2] for line in lines if line.strip()]
    for at, fields in enumerate(test):
        # A name with a folder in it could lead out of this one.
        if len(fields) < 2 or fields[0] != Path(fields[0]).name:
            raise ValueError(
                f"{source}: entry {at} of val/val_annotations.txt must be the name of a file and a "
                "class, separated by tabs."
            )
    for name in dict.fromkeys([*of_train, *(label for _, label in test)]):
        if name not in number:
            raise ValueError(f"{source}: {name} is a class that wnids.txt does not have.")
    return {
        "x_train": _pictures(train, content, source),
        "y_train": np.array([number[one] for one in of_train], np.int32),
        "x_test": _pictures([f"val/images/{file}" for file, _ in test], content, source),
        "y_test": np.array([number[label] for _, label in test], np.int32),
    }


def _members(file: BinaryIO, archive: Path) -> zipfile.ZipFile:
    try:
        members = zipfile.ZipFile(file)
        unpacked = sum(member.file_size for member in members.infolist())
        check_unpacked(archive.stat().st_size, unpacked)
    # What is damaged makes the module raise nearly anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{archive} is broken ({reason}); get it again.") from None
    return members


def _unpacked(members: zipfile.ZipFile, name: str) -> bytes:
    try:
        return members.read(f"{TINY}/{name}")
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _pictures(names: Sequence[str], content: Callable[[str], bytes], source: Path) -> np.ndarray:
    found = np.empty((len(names), TINY_SIZE, TINY_SIZE, 3), np.uint8)
    for at, name in enumerate(names):
        try:
            packed = content(name)
        except (OSError, ValueError) as error:
            raise ValueError(f"{source}: {name} cannot be read ({error}); get it again.") from error
        picture = decode(packed, f"{source}: {name}", lambda image: image)
        if picture.shape != found.shape[1:]:
            raise ValueError(
                f"{source}: {name} must be of {TINY_SIZE} by {TINY_SIZE} pixels, got "
                f"{picture.shape[0]} by {picture.shape[1]}; resize it, or read your images as a "
                "folder of your own."
            )
        found[at] = picture
    return found
