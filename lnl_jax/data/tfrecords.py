"""TFRecord files of images and labels, as TensorFlow Datasets writes them, without TensorFlow."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lnl_jax._files import opened, read_at_most
from lnl_jax.data.decoding import picture_of

KEPT = (b"image", b"label", b"coarse_label", b"id")
# Of a file, in bytes; the package makes none as large.
MOST = 1 << 31
# Of the fields of a protocol buffer: what follows the key.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_part(folder: Path, stem: str) -> list[dict]:
    """The examples of all files ``STEM.tfrecord-*``, in their order.

    Raises:
        ValueError: if a file is missing or broken; names it.
    """
    files = sorted(folder.glob(f"{stem}.tfrecord*"))
    counts = {re.sub(r".*-of-", "", file.name) for file in files}
    if counts != {f"{len(files):05d}"}:
        raise ValueError(f"{folder}: files of {stem} are missing; there are {len(files)}.")
    examples = []
    for file in files:
        try:
            with opened(file) as content:
                whole = read_at_most(content, MOST, file)
            examples += [_example(record) for record in _records(whole)]
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            raise ValueError(f"{file} is broken ({error}); prepare the set again.") from None
    return examples


def _records(content: bytes) -> Iterator[bytes]:
    """Each is framed by its length and by checksums."""
    at = 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        at += 12
        if at + length + 4 > len(content):
            raise ValueError("it ends within an example")
        yield content[at : at + length]
        at += length + 4


def _example(record: bytes) -> dict:
    """Of a ``tf.train.Example`` what is `KEPT`, the image as an array."""
    (features,) = (value for number, value in _fields(record) if number == 1)
    found = {}
    for _, entry in _fields(features):
        key, value = (part for _, part in sorted(_fields(entry)))
        if key in KEPT:
            found[key.decode()] = _first(value)
    with picture_of(found["image"], "an image") as image:
        return found | {"image": np.asarray(image)}


def _first(feature: bytes) -> bytes | int:
    """The first value of a list of bytes or of integers."""
    ((kind, values),) = _fields(feature)
    found = [value for number, value in _fields(values) if number == 1]
    if not found:
        raise ValueError("a feature without a value")
    value = found[0]
    packed = kind == 3 and isinstance(value, bytes)
    return _varint(value, 0)[0] if packed else value


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values of the fields of a protocol buffer."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(kind)
            if kind == BYTES:
                length, at = _varint(message, at)
            if length is None or at + length > len(message):
                raise ValueError("no example of images and labels")
            value, at = message[at : at + length], at + length
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if shift > 70:
            raise ValueError("a number is too long")
        if byte < 128:
            return value, at
