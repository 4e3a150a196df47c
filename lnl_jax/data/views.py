"""Random views of images as contrastive learning makes them: crops, colours, blur.

Images are ``[B, H, W, C]`` with values from 0 to 255 of any dtype; what comes out is float32 in the
same range, so `lnl_jax.data.augment.to_float` standardises it last. Each image draws its own
numbers. Cropping, blurring and changes of colour are products with small matrices, which are fast
on a CPU too.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax._host_arguments import check_number

# Luma of red, green and blue, ITU-R BT.601, as in the grey images of PIL.
LUMA = (0.299, 0.587, 0.114)
# Red, green and blue to brightness and two axes of colour, in which a hue is an angle.
_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def random_resized_crop(
    key: Array,
    images: Array,
    *,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Array:
    """Cuts a random part of each image and enlarges it to the old size.

    The area is a fraction uniform in `scale`, the ratio of width to height log-uniform in `ratio`,
    the place uniform. Sides longer than the image are cut to it, where torchvision draws again.
    Enlarging is linear, by `jax.image.scale_and_translate`; at the edge of the part it looks at the
    pixels beyond.

    Args:
        key: of the random numbers.
        images: ``[B, H, W, C]``.
        scale: lowest and highest fraction of the area.
        ratio: lowest and highest ratio of width to height.

    Returns:
        float32, with the shape of `images`.

    Raises:
        ValueError: if `images` has not four dimensions, or a range is not one.

    Example:
        >>> images = jnp.full((1, 4, 4, 3), 7, jnp.uint8)
        >>> crops = jax.jit(random_resized_crop)(jax.random.key(0), images)
        >>> bool((abs(crops - 7) < 1e-4).all())
        True

    References:
        Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), section 6; Chen et al., "A
        Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020), appendix
        A. The lower bound of the area is that of the official iSogCLR code.
    """
    _check_images(images)
    _check_range("scale", scale, at_most=1)
    _check_range("ratio", ratio)
    size, height, width, channels = images.shape
    keys = jax.random.split(key, 3)
    area = jax.random.uniform(keys[0], (size,), minval=scale[0], maxval=scale[1])
    limits = jnp.log(jnp.asarray(ratio))
    shape = jnp.exp(jax.random.uniform(keys[1], (size,), minval=limits[0], maxval=limits[1]))
    # As fractions of the image: the sides, and where the part begins.
    aspect = width / height
    sides = jnp.stack([jnp.sqrt(area / shape * aspect), jnp.sqrt(area * shape / aspect)], -1)
    sides = jnp.minimum(sides, 1)
    begin = jax.random.uniform(keys[2], (size, 2)) * (1 - sides)
    pixels = jnp.array([height, width], jnp.float32)

    def enlarge(image: Array, sides: Array, begin: Array) -> Array:
        return jax.image.scale_and_translate(
            image,
            (height, width, channels),
            (0, 1),
            1 / sides,
            -begin * pixels / sides,
            method="linear",
            antialias=False,
        )

    return jax.vmap(enlarge)(images.astype(jnp.float32), sides, begin)


def color_jitter(
    key: Array,
    images: Array,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 0.8,
) -> Array:
    r"""Changes brightness, contrast, saturation and hue, in this order, as one linear map.

    Each of the first three is a factor uniform in :math:`[1 - s, 1 + s]`: of the values, of their
    difference to the mean grey of the image, of their difference to the grey of the pixel. The hue
    turns by an angle uniform in :math:`[-h, h]` turns, about the grey axis of the YIQ colours.
    Values are cut to 0 and 255 once, at the end. Torchvision draws the order, cuts after each, and
    turns hues in HSV.

    Args:
        key: of the random numbers.
        images: ``[B, H, W, 3]``.
        brightness: s of the brightness, from 0 to 1.
        contrast: of the contrast.
        saturation: of the saturation.
        hue: h, from 0 to 1/2.
        probability: of the images that change at all.

    Returns:
        float32, with the shape of `images`.

    Raises:
        ValueError: if `images` is not ``[B, H, W, 3]``, or a strength or `probability` is out of
            range.

    Example:
        >>> import functools
        >>> grey = jnp.full((1, 1, 1, 3), 100.0)
        >>> jitter = functools.partial(color_jitter, brightness=0.0, probability=1.0)
        >>> found = jax.jit(jitter)(jax.random.key(0), grey)
        >>> bool((abs(found - grey) < 0.1).all())
        True

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML
        2020), appendix A; the official iSogCLR code has these strengths.
    """
    _check_colors(images)
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, strength in (strengths | {"hue": hue}).items():
        check_number(name, strength, at_least=0, at_most=0.5 if name == "hue" else 1)
    _check_probability(probability)
    images = images.astype(jnp.float32)
    size = len(images)
    keys = jax.random.split(key, 5)
    factors = [
        jax.random.uniform(one, (size, 1, 1), minval=1 - strength, maxval=1 + strength)
        for one, strength in zip(keys, strengths.values(), strict=False)
    ]
    light, spread, colour = factors
    angle = 2 * jnp.pi * jax.random.uniform(keys[3], (size,), minval=-hue, maxval=hue)
    luma = jnp.asarray(LUMA)
    grey = jnp.einsum("bhwc,c->b", images, luma) / (images.shape[1] * images.shape[2])
    identity = jnp.eye(3)[None]
    to_grey = jnp.broadcast_to(luma[:, None], (3, 3))[None]
    saturate = colour * identity + (1 - colour) * to_grey
    matrix = light * spread * (saturate @ _hue_rotation(angle))
    # What contrast adds is grey, which neither saturation nor hue changes.
    offset = light[:, 0] * (1 - spread[:, 0]) * grey[:, None]
    changed = jnp.einsum("bhwc,bcd->bhwd", images, matrix) + offset[:, None, None]
    chosen = jax.random.bernoulli(keys[4], probability, (size, 1, 1, 1))
    return jnp.where(chosen, jnp.clip(changed, 0, 255), images)


def random_grayscale(key: Array, images: Array, *, probability: float = 0.2) -> Array:
    """Takes the colour out of some images.

    Args:
        key: of the random numbers.
        images: ``[B, H, W, 3]``.
        probability: of the images that become grey.

    Returns:
        float32, with the shape of `images`.

    Raises:
        ValueError: if `images` is not ``[B, H, W, 3]``, or `probability` is out of range.

    Example:
        >>> red = jnp.array([100.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
        >>> random_grayscale(jax.random.key(0), red, probability=1.0).ravel().tolist()
        [29.9, 29.9, 29.9]
    """
    _check_colors(images)
    _check_probability(probability)
    images = images.astype(jnp.float32)
    grey = (images @ jnp.asarray(LUMA))[..., None]
    chosen = jax.random.bernoulli(key, probability, (len(images), 1, 1, 1))
    return jnp.where(chosen, grey, images)


def gaussian_blur(
    key: Array,
    images: Array,
    *,
    sigma: tuple[float, float] = (0.1, 2.0),
    probability: float = 0.5,
) -> Array:
    """Blurs some images with a Gaussian of random width; beyond the edge the image is mirrored.

    The Gaussian is cut off at a tenth of the image's height in all, as in SimCLR.

    Args:
        key: of the random numbers.
        images: ``[B, H, W, C]``.
        sigma: lowest and highest standard deviation in pixels.
        probability: of the images that are blurred.

    Returns:
        float32, with the shape of `images`.

    Raises:
        ValueError: if `images` has not four dimensions, `sigma` is no range, or `probability` is
            out of range.

    Example:
        >>> images = jnp.full((1, 4, 4, 3), 7, jnp.uint8)
        >>> blurred = jax.jit(gaussian_blur)(jax.random.key(0), images)
        >>> bool((abs(blurred - 7) < 1e-4).all())
        True

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML
        2020), appendix A.
    """
    _check_images(images)
    _check_range("sigma", sigma)
    _check_probability(probability)
    images = images.astype(jnp.float32)
    size, height, width, _ = images.shape
    width_key, choice_key = jax.random.split(key)
    deviation = jax.random.uniform(width_key, (size,), minval=sigma[0], maxval=sigma[1])
    radius = max(height // 20, 1)
    steps = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-jnp.square(steps[None] / deviation[:, None]) / 2)
    weights = weights / weights.sum(-1, keepdims=True)
    rows, columns = (_mirrored(weights, steps, length) for length in (height, width))
    blurred = jnp.einsum("bij,bjwc->biwc", rows, images)
    blurred = jnp.einsum("bij,bhjc->bhic", columns, blurred)
    chosen = jax.random.bernoulli(choice_key, probability, (size, 1, 1, 1))
    return jnp.where(chosen, blurred, images)


def _mirrored(weights: Array, steps: Array, length: int) -> Array:
    """The kernels ``[B, 2 r + 1]`` as matrices ``[B, length, length]``."""
    places = jnp.abs(jnp.arange(length)[:, None] + steps[None])
    places = jnp.where(places >= length, 2 * (length - 1) - places, places)
    hits = jax.nn.one_hot(places, length)
    return jnp.einsum("bk,ikj->bij", weights, hits)


def _hue_rotation(angle: Array) -> Array:
    """Matrices ``[B, 3, 3]`` that are applied from the right."""
    to_yiq = jnp.asarray(_TO_YIQ)
    cos, sin, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle), angle * 0 + 1
    turn = jnp.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], -1).reshape(-1, 3, 3)
    matrix = jnp.linalg.inv(to_yiq)[None] @ turn @ to_yiq[None]
    return jnp.swapaxes(matrix, -1, -2)


def _check_range(name: str, bounds: tuple[float, float], *, at_most: float | None = None) -> None:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"{name} must be two numbers, the lowest and the highest, got {bounds!r}.")
    for bound in bounds:
        check_number(name, bound, above=0, at_most=at_most)
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name} must be a range with the lowest number first, got {bounds}.")


def _check_probability(probability: float) -> None:
    # A traced one cannot be looked at.
    if not isinstance(probability, jax.Array):
        check_number("probability", probability, at_least=0, at_most=1)


def _check_images(images: Array) -> None:
    if jnp.ndim(images) != 4:
        raise ValueError(f"images must have the shape [B, H, W, C], got {jnp.shape(images)}.")


def _check_colors(images: Array) -> None:
    if jnp.ndim(images) != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must have the shape [B, H, W, 3], got {jnp.shape(images)}.")


def random_affine(key: jax.Array, images: jax.Array) -> jax.Array:
    """A view of small images, such as digits: no pixel is cut away, nothing is mirrored.

    Each is rotated by up to 0.3 radians, scaled by 0.85 to 1.15, shifted by up to 0.75 pixels, of
    0.7 to 1.3 of its contrast, and gets normal noise of deviation 0.1.

    Args:
        key: of the random numbers.
        images: floating, from 0 to 1, ``[B, H, W]``.

    Returns:
        The same shape.

    Raises:
        ValueError: if `images` is not floating or has not three dimensions.

    Example:
        >>> random_affine(jax.random.key(0), jnp.zeros((2, 8, 8))).shape
        (2, 8, 8)
    """
    if images.ndim != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be floating of shape [B, H, W], got {images.dtype} of shape "
            f"{images.shape}."
        )
    keys = jax.random.split(key, 5)
    size, *sides = images.shape

    def uniform(key, low, high, *shape):
        return jax.random.uniform(key, (size, *shape), minval=low, maxval=high)

    angle = uniform(keys[0], -0.3, 0.3)
    scale = uniform(keys[1], 0.85, 1.15)
    shift = uniform(keys[2], -0.75, 0.75, 2)
    centre = (np.array(sides, np.float32) - 1) / 2
    places = jnp.stack(jnp.meshgrid(*map(jnp.arange, sides), indexing="ij"))
    grid = places - centre[:, None, None]
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    turn = jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
    moved = jnp.einsum("ijb,jhw->bihw", turn, grid) + (centre[None] + shift)[:, :, None, None]
    sample = jax.vmap(lambda image, at: jax.scipy.ndimage.map_coordinates(image, at, order=1))
    seen = sample(images, moved) * uniform(keys[3], 0.7, 1.3, 1, 1)
    return seen + 0.1 * jax.random.normal(keys[4], images.shape)
