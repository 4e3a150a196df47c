"""Image sets: CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST.

A set is looked for, and the first that is found is taken, as

1. ``DIR/NAME.npz`` or ``DIR/NAME_10k.npz``, a part of it, where `data_dir` is DIR;
2. a set prepared in DIR by TensorFlow Datasets, which is read without TensorFlow;
3. its public archive in the binary version, packed or not: ``cifar-10-binary.tar.gz`` or
   ``cifar-10-batches-bin``, ``cifar-100-binary``, for the two MNISTs the four files in
   ``DIR/mnist`` or ``DIR/fashion_mnist``, or where torchvision has them;
4. the same three in the cache, ``$XDG_CACHE_HOME/lnl_jax`` or ``~/.cache/lnl_jax``, and in the
   folder of TensorFlow Datasets;
5. a download: by TensorFlow Datasets where TensorFlow is installed, else of the public archive,
   which is checked and stored as ``NAME.npz`` in DIR or in the cache.

Where DIR has the set as pickles only, such as ``cifar-10-batches-py``, nothing is downloaded: an
error says how to convert them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnl_jax.data import archives, downloads, prepared
from lnl_jax.data.dataset import KEYS, PARTS, Splits, splits_of
from lnl_jax.data.npz import check_folder, load_npz
from lnl_jax.data.pickled_sets import refuse_pickles

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FASHION_CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
CIFAR100_CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()
)


class _ImageSet(NamedTuple):
    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]


def cifar10(data_dir: str | os.PathLike | None = None) -> Splits:
    """CIFAR-10: 50,000 and 10,000 colour images of 32 by 32 pixels, 10 classes.

    Where it is looked for: `lnl_jax.data.image_sets`. Human labels (CIFAR-10N) and vote counts
    (CIFAR-10H) are the columns ``label_NAME`` and ``NAME`` where the ``.npz`` has them. They are
    published as pickles, which are not read: store them as ``y_train_NAME``, or as a file of their
    own for `lnl_jax.data.human_labels`.

    Args:
        data_dir: a folder with ``cifar10.npz``, ``cifar10_10k.npz`` or a prepared set; None looks
            in the usual places and downloads.

    Returns:
        `Splits` with ``image``, uint8, ``[N, 32, 32, 3]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), Section 3.
        Wei et al., "Learning with Noisy Labels Revisited: A Study Using Real-World Human
        Annotations" (ICLR 2022).
    """
    return _load(_ImageSet("cifar10", CIFAR10_CLASSES, (32, 32, 3)), data_dir)


def cifar100(data_dir: str | os.PathLike | None = None) -> Splits:
    """CIFAR-100: 50,000 and 10,000 colour images of 32 by 32 pixels, 100 fine classes.

    The archive brings ``label_coarse`` along, the 20 superclasses. Human labels (CIFAR-100N): see
    `cifar10`.

    Args:
        data_dir: a folder with ``cifar100.npz``, ``cifar100_10k.npz`` or a prepared set; None looks
            in the usual places and downloads.

    Returns:
        `Splits` with ``image``, uint8, ``[N, 32, 32, 3]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), Section 3.
    """
    return _load(_ImageSet("cifar100", CIFAR100_CLASSES, (32, 32, 3)), data_dir)


def mnist(data_dir: str | os.PathLike | None = None) -> Splits:
    """MNIST: 60,000 and 10,000 grey images of handwritten digits, 28 by 28 pixels.

    Args:
        data_dir: a folder with ``mnist.npz``, ``mnist_10k.npz`` or a prepared set; None looks in
            the usual places and downloads.

    Returns:
        `Splits` with ``image``, uint8, ``[N, 28, 28, 1]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (Proceedings of the
        IEEE, 1998), Section III.
    """
    return _load(_ImageSet("mnist", tuple("0123456789"), (28, 28, 1)), data_dir)


def fashion_mnist(data_dir: str | os.PathLike | None = None) -> Splits:
    """Fashion-MNIST: 60,000 and 10,000 grey images of clothes, 28 by 28 pixels, 10 classes.

    Args:
        data_dir: a folder with ``fashion_mnist.npz``, ``fashion_mnist_10k.npz`` or a prepared set;
            None looks in the usual places and downloads.

    Returns:
        `Splits` with ``image``, uint8, ``[N, 28, 28, 1]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Xiao et al., "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
        Algorithms" (2017).
    """
    return _load(_ImageSet("fashion_mnist", FASHION_CLASSES, (28, 28, 1)), data_dir)


def cache_folder() -> Path:
    """Where downloads are kept if no folder is given."""
    # An empty variable counts as none, as the XDG specification has it.
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lnl_jax"


def _load(wanted: _ImageSet, data_dir: str | os.PathLike | None) -> Splits:
    folder = None if data_dir is None else check_folder(data_dir)
    places = [cache_folder(), prepared.default_folder()]
    places = places if folder is None else [folder, *places]
    found = _find(wanted, places)
    if found is None and folder is not None:
        refuse_pickles(wanted.name, folder)
    if found is None:
        try:
            _download(wanted.name, folder)
        except (ConnectionError, ModuleNotFoundError) as error:
            raise FileNotFoundError(_ways_out(wanted.name, places, error)) from error
        found = _find(wanted, places)
    return found


def _find(wanted: _ImageSet, places: list[Path]) -> Splits | None:
    for place in places:
        for stem in (wanted.name, f"{wanted.name}_10k"):
            if os.path.lexists(place / f"{stem}.npz"):
                splits = load_npz(place, stem, class_names=wanted.class_names)
                return _of_size(splits, wanted.shape, place / f"{stem}.npz")
        if source := prepared.find_prepared(place, wanted.name):
            return _of_arrays(wanted, prepared.read_prepared(source), source)
        if source := archives.find(wanted.name, place):
            return _of_arrays(wanted, archives.read(wanted.name, source), source)
    return None


def _of_arrays(wanted: _ImageSet, arrays: Mapping[str, np.ndarray], source: Path) -> Splits:
    try:
        splits = splits_of(arrays, class_names=wanted.class_names)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return _of_size(splits, wanted.shape, source)


def _of_size(splits: Splits, shape: tuple[int, int, int], source: Path) -> Splits:
    for part in PARTS:
        found = getattr(splits, part)
        values = found["image"] if "image" in found else found["x"]
        if values.shape[1:] != shape:
            # One channel may be left out in the file.
            expected = f"[N, {', '.join(map(str, shape))}]"
            raise ValueError(
                f"{source}: x_{part} must hold images {expected} of uint8, got {values.shape}."
            )
    return splits


def _download(name: str, folder: Path | None) -> None:
    # Asked first: without a connection TensorFlow Datasets tries for minutes.
    downloads.check_connection(archives.files_of(name)[0].url)
    if prepared.can_prepare():
        prepared.prepare(folder or prepared.default_folder(), name)
    else:
        archives.fetch(name, folder or cache_folder())


def _ways_out(name: str, places: list[Path], reason: Exception) -> str:
    return (
        f"{name} is in none of {', '.join(map(str, places))} and cannot be downloaded ({reason}). "
        f"Give data_dir, a folder with {name}.npz (keys {', '.join(KEYS)}) or the public archive, "
        "prepare the set with tensorflow_datasets, connect to the internet, or use generated "
        "images: shapes32."
    )
