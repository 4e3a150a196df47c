"""Generated images of shapes, where no real ones are at hand."""

from collections.abc import Callable, Mapping

import numpy as np

from lnl_jax._host_arguments import check_integer
from lnl_jax.data.dataset import Splits

Array = np.ndarray

SIZE = 32
# Each block of images has a generator of its own, so the first images do not depend on how many
# there are. A multiple of both numbers of classes; small, so that a block stays in the cache.
BLOCK = 200
# Of the edges inside a texture, in changes of the pattern per period.
SHARPNESS = 6
# With 10 classes: how often the texture is the one that goes with the shape. As in real images, a
# small part of an image already tells something of the class.
TYPICAL = 0.95
# How much of a figure's colour is its hue.
TINT = 0.35
# Of a shape, either way.
TILT = np.pi / 6


def shapes32(
    *, num_classes: int = 10, num_train: int = 10_000, num_test: int = 2_000, seed: int = 0
) -> Splits:
    """Generated colour images of 32 by 32 pixels, 10 or 100 classes, with nothing to download.

    They let an experiment made for CIFAR run anywhere. They are no substitute for real images: a
    result on them says nothing of CIFAR.

    With 10 classes the class is a shape (disc, ring, star, ...). In 19 of 20 images its texture,
    and likewise its hue, is that of the shape; in the others it is random. With 100 the class is a
    shape and a texture, class ``10 * shape + texture``, so ``label // 10`` is a superclass. Colours
    otherwise, size, place, rotation, background, clutter, a bar in front, contrast and pixel noise
    are random and say nothing of the class.

    Args:
        num_classes: 10 or 100.
        num_train: how many training images; the first n are the same for every number.
        num_test: how many test images, drawn apart from the training images.
        seed: of everything random; a seed gives the same images on every machine.

    Returns:
        `Splits` with ``generated`` true. ``image`` is uint8, ``[N, 32, 32, 3]``; ``label``, int32,
        is in random order, and the counts of two classes differ by at most one.

    Raises:
        ValueError: if `num_classes` is neither 10 nor 100, a number of images is less than 1, or
            `seed` less than 0.

    Example:
        >>> splits = shapes32(num_train=20, num_test=10)
        >>> splits.train["image"].shape, splits.class_names[:3], splits.generated
        ((20, 32, 32, 3), ('disc', 'ring', 'square'), True)
    """
    if num_classes not in (10, 100):
        raise ValueError(f"num_classes must be 10 or 100, got {num_classes}.")
    for name, number in (("num_train", num_train), ("num_test", num_test)):
        check_integer(name, number, at_least=1)
    check_integer("seed", seed, at_least=0)
    names = tuple(SHAPES)
    if num_classes == 100:
        names = tuple(f"{shape} {texture}" for shape in SHAPES for texture in TEXTURES)
    return Splits(
        train=_part(num_classes, num_train, (seed, 0)),
        test=_part(num_classes, num_test, (seed, 1)),
        num_classes=num_classes,
        class_names=names,
        generated=True,
    )


def _part(num_classes: int, size: int, seed: tuple[int, int]) -> dict[str, Array]:
    blocks = [
        _block(num_classes, np.random.default_rng((*seed, num_classes, block)))
        for block in range(-(-size // BLOCK))
    ]
    images, labels = (np.concatenate(parts)[:size] for parts in zip(*blocks, strict=True))
    index = np.arange(size, dtype=np.int32)
    return {"image": images, "label": labels.astype(np.int32), "index": index}


def _block(num_classes: int, rng: np.random.Generator) -> tuple[Array, Array]:
    # Each run of K examples holds every class once, so any number of them is balanced.
    classes = np.tile(np.arange(num_classes), (BLOCK // num_classes, 1))
    labels = rng.permuted(classes, axis=1).ravel()
    hues = rng.random(BLOCK)
    if num_classes == 10:
        shapes, textures = labels, rng.integers(len(TEXTURES), size=BLOCK)
        textures = np.where(rng.random(BLOCK) < TYPICAL, labels, textures)
        near = (labels + rng.uniform(-0.5, 0.5, BLOCK)) / num_classes
        hues = np.where(rng.random(BLOCK) < TYPICAL, near, hues)
    else:
        shapes, textures = np.divmod(labels, len(TEXTURES))
    return _scenes(shapes, textures, hues, rng), labels


# A scene is painted from the back to the front. Places are in pixels, colours from 0 to 1.
#
# Per pixel there is arithmetic and the square root only, which are exact to the last bit
# everywhere; sines and cosines are computed per image and rounded.


def _scenes(shapes: Array, textures: Array, hues: Array, rng: np.random.Generator) -> Array:
    """One image for each shape and texture, uint8, ``[n, 32, 32, 3]``."""
    # Figures are lighter than what is behind them, which is nearly grey, and of a hue.
    base = rng.uniform(0.1, 0.5, (BLOCK, 1)) + rng.uniform(-0.05, 0.05, (BLOCK, 3))
    steps = np.stack([rng.uniform(0.15, 0.3, (BLOCK, 3)), rng.uniform(0.35, 0.5, (BLOCK, 3))])
    first, second = base + rng.permuted(steps, axis=0) + TINT * _tints(hues)
    canvas = _background(base, rng)
    for _ in range(2):
        place = rng.uniform(0, SIZE - 1, (BLOCK, 2))
        _paint(canvas, _box(place, (1, 3), (1, 3), rng), rng.random((BLOCK, 3)))
    centre = (SIZE - 1) / 2 + rng.uniform(-5, 5, (BLOCK, 2))
    radius = _float32(rng.uniform(8, 12, BLOCK))
    along, across = _axes(centre, rng, TILT)
    distance = radius * _by_kind(SHAPES, shapes, along / radius, across / radius)
    period = _float32(rng.uniform(4.5, 7, BLOCK))
    along, across = _axes(centre, rng)
    pattern = _by_kind(TEXTURES, textures, along / period, across / period)
    inside = _covered(distance)
    _paint(canvas, inside * (1 - pattern), first)
    _paint(canvas, inside * pattern, second)
    place = centre + rng.uniform(-6, 6, (BLOCK, 2))
    _paint(canvas, _box(place, (3, 8), (0.5, 1.2), rng), rng.random((BLOCK, 3)))
    return _developed(canvas, rng)


def _tints(hues: Array) -> Array:
    """Colours around the wheel, a full turn from 0 to 1, that sum to 0: ``[n, 3]``."""
    return np.cos(2 * np.pi * (hues[:, None] + np.arange(3) / 3))


def _background(base: Array, rng: np.random.Generator) -> Array:
    """A gradient, a faint texture and broad blotches, ``[n, 32, 32, 3]``."""
    centre = rng.uniform(0, SIZE - 1, (BLOCK, 2))
    along, across = _axes(centre, rng)
    period = _float32(rng.uniform(5, 12, BLOCK))
    kinds = rng.integers(len(TEXTURES), size=BLOCK)
    pattern = _by_kind(TEXTURES, kinds, along / period, across / period)
    layers = (along / SIZE, pattern - np.float32(0.5), _blotches(rng))
    canvas = np.broadcast_to(_float32(base, 2), (BLOCK, SIZE, SIZE, 3)).copy()
    for layer, strength in zip(layers, (0.3, 0.15, 0.3), strict=True):
        colour = rng.uniform(-strength, strength, (BLOCK, 3))
        canvas += layer[..., None] * _float32(colour, 2)
    return canvas


def _blotches(rng: np.random.Generator) -> Array:
    """Random values on a 5 by 5 grid with straight lines between them, from -1/2 to 1/2."""
    values = rng.random((BLOCK, 5, 5), np.float32) - np.float32(0.5)
    place = np.arange(SIZE, dtype=np.float32) / 8
    left = place.astype(int)
    rest = place - left
    values = values[:, left] * (1 - rest[:, None]) + values[:, left + 1] * rest[:, None]
    return values[:, :, left] * (1 - rest) + values[:, :, left + 1] * rest


def _box(
    centre: Array,
    lengths: tuple[float, float],
    widths: tuple[float, float],
    rng: np.random.Generator,
) -> Array:
    """Where a turned box covers the pixels; half its length and width are in these ranges."""
    along, across = _axes(centre, rng)
    length, width = (_float32(rng.uniform(*sides, BLOCK)) for sides in (lengths, widths))
    return _covered(np.maximum(np.abs(along) - length, np.abs(across) - width))


def _developed(canvas: Array, rng: np.random.Generator) -> Array:
    """Random contrast and brightness, noise of the pixels, and whole numbers."""
    contrast = _float32(rng.uniform(0.7, 1, BLOCK), 3)
    brightness = _float32(rng.uniform(-0.15, 0.15, BLOCK), 3)
    strength = _float32(rng.uniform(0.02, 0.1, BLOCK), 3)
    half = np.float32(0.5)
    noise = rng.random(canvas.shape, np.float32) + rng.random(canvas.shape, np.float32) - 1
    canvas = contrast * (canvas - half) + half + brightness + strength * noise
    return np.rint(255 * canvas.clip(0, 1)).astype(np.uint8)


def _axes(centre: Array, rng: np.random.Generator, most: float = np.pi) -> tuple[Array, Array]:
    """Coordinates of the pixels about a centre, turned by `most` at most, each ``[n, 32, 32]``."""
    angle = rng.uniform(-most, most, len(centre))
    cosine, sine = _float32(np.cos(angle)), _float32(np.sin(angle))
    pixels = np.arange(SIZE, dtype=np.float32)
    across, down = pixels - _float32(centre[:, 0]), pixels[:, None] - _float32(centre[:, 1])
    return cosine * across + sine * down, cosine * down - sine * across


def _by_kind(kinds: Mapping[str, Callable], chosen: Array, x: Array, y: Array) -> Array:
    """Each image by the function of its own kind."""
    values = np.empty_like(x)
    for number, function in enumerate(kinds.values()):
        rows = np.flatnonzero(chosen == number)
        values[rows] = function(x[rows], y[rows])
    return values


def _paint(canvas: Array, cover: Array, colour: Array) -> None:
    canvas += cover[..., None] * (_float32(colour, 2) - canvas)


def _covered(distance: Array) -> Array:
    """How much of a pixel lies inside an edge at this distance from its middle."""
    return (np.float32(0.5) - distance).clip(0, 1)


def _float32(values: Array, axes: int = 2) -> Array:
    """In single precision, with axes for the pixels after the first one: images come first."""
    values = np.asarray(values, np.float32)
    return values.reshape(values.shape[:1] + (1,) * axes + values.shape[1:])


# Shapes: the distance from the edge, about, negative inside; they fit in a circle of radius 1.


def _disc(x: Array, y: Array) -> Array:
    return np.sqrt(x * x + y * y) - np.float32(0.9)


def _ring(x: Array, y: Array) -> Array:
    return np.abs(_disc(x, y) + np.float32(0.2)) - np.float32(0.2)


def _square(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.75)


def _triangle(x: Array, y: Array) -> Array:
    return _edges(x, y, 3).max(0) - np.float32(0.5)


def _star(x: Array, y: Array) -> Array:
    # The pentagram is where at most one of its five lines is crossed.
    return np.partition(_edges(x, y, 5), 3, axis=0)[3] - np.float32(0.31)


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(x, y) - np.float32(0.25), np.maximum(x, y) - np.float32(0.9))


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(_disc(x, y), -_disc(x - np.float32(0.5), y))


def _bars(x: Array, y: Array) -> Array:
    apart = np.abs(np.abs(y) - np.float32(0.5)) - np.float32(0.22)
    return np.maximum(np.abs(x) - np.float32(0.8), apart)


def _hourglass(x: Array, y: Array) -> Array:
    side = np.float32(0.75) * (np.abs(x) - np.abs(y)) - np.float32(0.08)
    return np.maximum(np.abs(y) - np.float32(0.8), side)


def _ell(x: Array, y: Array) -> Array:
    foot = np.maximum(np.abs(x), np.abs(y)) - np.float32(0.75)
    return np.maximum(foot, np.float32(0.3) - np.maximum(x + np.float32(0.1), y + np.float32(0.1)))


def _edges(x: Array, y: Array, sides: int) -> Array:
    """How far out a point is in the direction of each side of a regular polygon."""
    angles = 2 * np.pi * np.arange(sides) / sides
    directions = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    return np.stack([cosine * x + sine * y for cosine, sine in directions])


SHAPES: Mapping[str, Callable] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "bars": _bars,
    "hourglass": _hourglass,
    "ell": _ell,
}


# Textures: from 0, the first colour, to 1, the second; coordinates are in periods.


def _plain(x: Array, y: Array) -> Array:
    return np.zeros_like(x)


def _striped(x: Array, y: Array) -> Array:
    return _step(_wave(x))


def _checked(x: Array, y: Array) -> Array:
    return _step(4 * _wave(x) * _wave(y))


def _dotted(x: Array, y: Array) -> Array:
    x, y = x - np.rint(x), y - np.rint(y)
    return _step(np.float32(0.32) - np.sqrt(x * x + y * y))


def _gridded(x: Array, y: Array) -> Array:
    return _step(np.maximum(_wave(x), _wave(y)) - np.float32(0.12))


def _ringed(x: Array, y: Array) -> Array:
    return _step(_wave(np.sqrt(x * x + y * y)))


def _wedged(x: Array, y: Array) -> Array:
    return _step(x * y * (x * x - y * y) / np.maximum((x * x + y * y) ** 2, np.float32(0.01)))


def _shaded(x: Array, y: Array) -> Array:
    return (np.float32(0.5) + x / 3).clip(0, 1)


def _halved(x: Array, y: Array) -> Array:
    return _step(x)


def _zigzag(x: Array, y: Array) -> Array:
    return _step(_wave(x + 2 * _wave(y / 2)))


def _wave(x: Array) -> Array:
    """From -1/4, at the whole numbers, to 1/4 between them, and straight."""
    return np.abs(x - np.rint(x)) - np.float32(0.25)


def _step(x: Array) -> Array:
    return (SHARPNESS * x + np.float32(0.5)).clip(0, 1)


TEXTURES: Mapping[str, Callable] = {
    "plain": _plain,
    "striped": _striped,
    "checked": _checked,
    "dotted": _dotted,
    "gridded": _gridded,
    "ringed": _ringed,
    "wedged": _wedged,
    "shaded": _shaded,
    "halved": _halved,
    "zigzag": _zigzag,
}
