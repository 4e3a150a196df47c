"""The honest ledger: what a distilled data set costs in bytes, and what is left out."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lnl_jax._host_arguments import check_integer

PyTree = Any


class Entry(NamedTuple):
    """A line of the ledger.

    Attributes:
        name: what it is.
        dtype: of its numbers, as text; empty for files of several.
        bytes: its size.
        counted: whether it enters the total: a public foundation model does not, and is printed
            all the same; neither do alternatives.
    """

    name: str
    dtype: str
    bytes: int
    counted: bool = True


def label_bytes(
    images: int, epochs: int, classes: int, *, bytes_per_value: int = 2, keep: int = 1
) -> int:
    """Stored logits of every image in every epoch: images x epochs x classes x bytes / keep.

    Args:
        images: of the distilled set, over all classes.
        epochs: of the student's training.
        classes: K.
        bytes_per_value: 2 for float16.
        keep: LPLD stores one in so many.

    Returns:
        The bytes.

    Raises:
        ValueError: if a number is no integer or out of range, as in all functions of sizes.

    Example:
        >>> round(label_bytes(1000, 300, 1000) / 2**20, 1)  # ImageNet-1K, one image per class, MiB
        572.2

    References:
        Xiao and He, "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?"
        (LPLD, NeurIPS 2024), the table of sizes; with `geometry_bytes`.
    """
    _check_sizes(images, epochs, classes, bytes_per_value, keep)
    return images * epochs * classes * bytes_per_value // keep


def top_label_bytes(
    images: int, epochs: int, classes: int, k: int, *, bytes_per_value: int = 2, keep: int = 1
) -> int:
    """The same for the k largest, with their classes in 1, 2 or 4 bytes.

    Args:
        images: of the distilled set.
        epochs: of the student's training.
        classes: K.
        k: stored entries of each row.
        bytes_per_value: 2 for float16.
        keep: LPLD stores one in so many.

    Returns:
        The bytes.
    """
    _check_sizes(images, epochs, classes, bytes_per_value, keep)
    check_integer("k", k, at_most=classes)
    index = 1 if classes <= 256 else 2 if classes <= 65536 else 4
    return images * epochs * k * (bytes_per_value + index) // keep


def quantized_label_bytes(images: int, epochs: int, classes: int, *, keep: int = 1) -> int:
    """The same for `quantize`: a byte per class, and four per row.

    Args:
        images: of the distilled set.
        epochs: of the student's training.
        classes: K.
        keep: LPLD stores one in so many.

    Returns:
        The bytes.
    """
    _check_sizes(images, epochs, classes, 1, keep)
    return images * epochs * (classes + 4) // keep


def geometry_bytes(images: int, epochs: int) -> int:
    """What FKD, SRe2L and LPLD store per image and epoch: 16 of crop, 1 of flip, 8 of mixing.

    Here it is none: the geometry is drawn again from a seed.

    Args:
        images: of the distilled set.
        epochs: of the student's training.

    Returns:
        The bytes.

    Example:
        >>> total = label_bytes(50_000, 300, 1000) + geometry_bytes(50_000, 300)
        >>> round(total / 2**30, 2)  # LPLD prints 28.33 GiB for its unpruned labels
        28.29
    """
    _check_sizes(images, epochs, 1, 1, 1)
    return images * epochs * 25


def tree_bytes(tree: PyTree, dtype: Any = None) -> int:
    """The bytes of all arrays of a pytree.

    Args:
        tree: arrays or shapes, such as those of `projector_shapes`.
        dtype: what they are stored as; None for their own.

    Returns:
        The bytes.

    Example:
        >>> tree_bytes({"a": jax.ShapeDtypeStruct((3, 2), jnp.float32)}, jnp.float16)
        12
    """
    return sum(
        math.prod(leaf.shape) * jnp.dtype(dtype or leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )


def total_bytes(entries: Sequence[Entry]) -> int:
    """The sum of the counted lines.

    Args:
        entries: the ledger.

    Returns:
        The bytes.
    """
    return sum(entry.bytes for entry in entries if entry.counted)


def ledger_table(entries: Sequence[Entry], *, against: int) -> list[dict[str, Any]]:
    """The ledger as rows of a table, the total last.

    Args:
        entries: the ledger.
        against: bytes of the full labels, the denominator of the ratios, at least 1.

    Returns:
        A row per line: name, dtype, bytes, the size as text, percent of the full labels, and
        whether it counts.

    Raises:
        ValueError: if `against` is no such number.
    """
    check_integer("against", against)
    total = Entry("total of what counts", "", total_bytes(entries))
    return [
        {
            "what": entry.name,
            "dtype": entry.dtype,
            "bytes": entry.bytes,
            "size": readable_size(entry.bytes),
            "% of full labels": 100 * entry.bytes / against,
            "counted": "yes" if entry.counted else "no",
        }
        for entry in (*entries, total)
    ]


def readable_size(count: int) -> str:
    """A size in binary units.

    Args:
        count: bytes.

    Returns:
        Text.

    Raises:
        ValueError: if `count` is no integer or less than 0.

    Example:
        >>> readable_size(600_000_000)
        '572.2 MiB'
    """
    check_integer("count", count, at_least=0)
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def claimed_ratios(parameters: int, labels: int) -> dict[str, float]:
    """The ways in which "0.003% of the labels" can be meant, for an adapter.

    Args:
        parameters: of the adapter.
        labels: bytes of the stored labels.

    Returns:
        Fractions: ``millions of parameters / MiB of labels`` (a byte for each parameter: no
        storage at all), and the bytes as float16 and as float32.

    Raises:
        ValueError: if a number is no integer or less than 1.

    Example:
        >>> ratios = claimed_ratios(847_360, label_bytes(50_000, 300, 1000))
        >>> [f"{100 * value:.4f}%" for value in ratios.values()]
        ['0.0028%', '0.0056%', '0.0113%']
    """
    check_integer("parameters", parameters)
    check_integer("labels", labels)
    return {
        "millions of parameters / MiB of labels": parameters / 2**20 / (labels / 2**20),
        "float16 bytes / label bytes": 2 * parameters / labels,
        "float32 bytes / label bytes": 4 * parameters / labels,
    }


def _check_sizes(images: int, epochs: int, classes: int, bytes_per_value: int, keep: int) -> None:
    check_integer("images", images)
    check_integer("epochs", epochs)
    check_integer("classes", classes)
    check_integer("bytes_per_value", bytes_per_value)
    check_integer("keep", keep)
