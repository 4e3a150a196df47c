"""Human labels of CIFAR, put in the order of the images that one has."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from lnl_jax._files import read_npy
from lnl_jax._host_arguments import check_integer, read_class_numbers
from lnl_jax.data.npz import read_arrays

TRAIN = 50_000
# Identical images of CIFAR-100, which the published order confuses.
TWINS = (
    (30418, 47806),
    (17688, 41874),
    (18461, 46752),
    (4348, 30931),
    (8599, 22657),
    (9012, 31128),
    (20635, 32666),
)
CLEAN = "clean_label"
# What one published file calls what another calls otherwise.
ALIASES = {"noise_label": "noisy_label"}
HOLDS = "integer arrays of one length, such as clean_label and worse_label"
# Labels in the right order agree with the clean ones for 60% and more; in a wrong one for 1 / K.
AGREE = 0.5


def human_labels(path: str | Path, clean_label: ArrayLike) -> dict[str, np.ndarray]:
    """Human labels of a file, in the order of a data set.

    The file may be in the order of the public archives, which is also that of
    `lnl_jax.data.cifar10`, or in that in which TensorFlow Datasets stores the images
    (`tfds_order`), whose published file confuses seven pairs of twins of CIFAR-100. The order in
    which the file's own ``clean_label`` are those of the data set is taken; where the file has
    none, that in which its labels agree best with them. No file of an order is needed.

    Args:
        path: an ``.npz`` file of integer arrays ``[N]``, such as ``clean_label``, ``aggre_label``,
            ``worse_label``, ``random_label1``, ``noisy_label``; or an ``.npy`` file of one, which
            is called by the name of the file.
        clean_label: of the data set that the labels are for, ``[N]``.

    Returns:
        The arrays by name, int32, ``[N]``; ``noise_label`` of the file is ``noisy_label`` here.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is a pickle, as the published ones are: it is not read, and the
            message says how to convert it; if an array is not of integers or of another length; or
            if the labels fit in no known order.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> clean = np.arange(100) % 10
        >>> order = tfds_order(100)
        >>> file, worse = f"{folder.name}/n.npz", clean + 1
        >>> np.savez(file, clean_label=clean[order], worse_label=worse[order])
        >>> human_labels(file, clean)["worse_label"][:5].tolist()
        [1, 2, 3, 4, 5]
        >>> folder.cleanup()

    References:
        Wei et al., "Learning with Noisy Labels Revisited: A Study Using Real-World Human
        Annotations" (ICLR 2022).
    """
    path, clean = Path(path), read_class_numbers(clean_label, name="clean_label")
    arrays = _integers(path, len(clean))
    key = np.stack([arrays[CLEAN]]) if CLEAN in arrays else np.stack(list(arrays.values()))
    places = list(_places(len(clean)))
    agreements = [float((key[:, place] == clean).mean()) for place in places]
    best = int(np.argmax(agreements))
    if agreements[best] < (1 if CLEAN in arrays else AGREE):
        different = round((1 - agreements[best]) * key.size)
        raise ValueError(
            f"{path}: its labels are those of other images: {different} of {key.size} "
            f"{CLEAN if CLEAN in arrays else 'labels'} differ from the clean_label of the data set "
            "in the order that fits best; give the training images of the same data set, whole."
        )
    return {name: values[places[best]] for name, values in arrays.items()}


def tfds_order(size: int = TRAIN, *, split: str = "train") -> np.ndarray:
    r"""Which image of the archives stands where in the files of TensorFlow Datasets.

    .. math:: \text{order} = \operatorname{argsort}_i \operatorname{md5}(\text{split} \| i)

    Labels y in the order of the archives are ``y[order]`` in theirs. It was compared with the
    published order for the training images of CIFAR-10.

    Args:
        size: how many images the split has.
        split: its name.

    Returns:
        int64, ``[size]``.

    Raises:
        ValueError: if the size is not positive.

    Example:
        >>> tfds_order()[:5].tolist()
        [16399, 1680, 47917, 17307, 27051]
    """
    check_integer("size", size)
    digests = [_digest(f"{split}{index}") for index in range(size)]
    return np.array(sorted(range(size), key=digests.__getitem__), np.int64)


def _digest(name: str) -> bytes:
    return hashlib.md5(name.encode(), usedforsecurity=False).digest()


def image_order(path: str | Path) -> np.ndarray:
    """A published order of the training images, checked and, for CIFAR-100, put right.

    The file of CIFAR-100 has seven pairs of identical images the wrong way round; four of them
    have different labels. `tfds_order` needs no file.

    Args:
        path: an ``.npy`` file of integers, such as ``image_order_c10.npy``.

    Returns:
        int64, ``[50000]``: `tfds_order`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a pickle or holds another order; says where the first difference is.
    """
    found = _read(Path(path))
    if len(found) != 1:
        raise ValueError(
            f"{path} must hold one array, the order; got {', '.join(found) or 'none'}."
        )
    (order,) = found.values()
    right = tfds_order()
    if order.shape == right.shape and (order == _with_twins_swapped(right)).all():
        return right
    if order.shape != right.shape or (order != right).any():
        where = ""
        if order.shape == right.shape:
            different = np.flatnonzero(order != right)
            where = f", {len(different)} places differ, the first is {different[0]}"
        raise ValueError(
            f"{path} must hold the order of TensorFlow Datasets, {TRAIN} integers that begin "
            f"{right[:3].tolist()}; got the shape {order.shape}{where}. tfds_order() needs no file."
        )
    return right


def _with_twins_swapped(order: np.ndarray) -> np.ndarray:
    swapped = np.arange(len(order))
    for one, other in TWINS:
        swapped[[one, other]] = other, one
    return swapped[order]


def _places(size: int) -> Iterator[np.ndarray]:
    """For each known pair of orders, which entry of the file belongs to each image."""
    yield np.arange(size)
    order = tfds_order(size)
    # The file in the order of TensorFlow Datasets, the images in that of the archives.
    yield np.argsort(order)
    published = [_with_twins_swapped(order)] if size == TRAIN else []
    yield from map(np.argsort, published)
    # The images in the order of TensorFlow Datasets.
    yield order
    yield from (np.argsort(one)[order] for one in published)


def _integers(path: Path, length: int) -> dict[str, np.ndarray]:
    arrays = {ALIASES.get(name, name): values for name, values in _read(path).items()}
    if not arrays:
        raise ValueError(f"{path} must hold {HOLDS}; it is empty.")
    for name, values in arrays.items():
        if values.shape != (length,):
            raise ValueError(
                f"{path}: {name} must have an entry for each of the {length} images, got the shape "
                f"{values.shape}; leave out of the file what is of other images."
            )
        arrays[name] = read_class_numbers(values, name=f"{path}: {name}")
    return arrays


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it holds {HOLDS}, as .npz or .npy.")
    if path.suffix == ".npz":
        return read_arrays(path.parent, path.stem, HOLDS)[1]
    if path.suffix != ".npy":
        raise ValueError(
            _refused(path, f"import torch; d = torch.load({str(path)!r}, weights_only=False)")
        )
    try:
        return {path.stem: read_npy(path)}
    except ValueError:
        load = f"d = np.load({str(path)!r}, allow_pickle=True).item()"
        raise ValueError(_refused(path, load)) from None


def _refused(path: Path, load: str) -> str:
    out = str(path.with_suffix(".npz"))
    return (
        f"{path} is no .npz or .npy file of plain integers. The published files are pickles, which "
        "are not read, because that may run any program. Convert it once, if you trust it, with "
        f"Python: import numpy as np; {load}; "
        f"np.savez({out!r}, **{{k: np.asarray(v, np.int64) for k, v in d.items()}})"
    )
