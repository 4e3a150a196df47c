"""Networks of flax as functions: first variables, scores on the device, images in chunks."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PyTree = Any
# parameters, and what else a network has, such as batch statistics
Variables = tuple[PyTree, PyTree]


def initial_variables(model: Any, key: Array, image_shape: tuple[int, ...]) -> Variables:
    """Makes the parameters of a network, and what else it has, for images of this shape.

    Args:
        model: a flax module that is called with images.
        key: of the random numbers.
        image_shape: height, width and channels.

    Returns:
        Parameters, and a dict of the other collections.
    """
    variables = _initializer(model)(key, jnp.zeros((2, *image_shape)))
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


@functools.lru_cache(maxsize=16)
def _initializer(model: Any) -> Callable:
    return jax.jit(model.init)


def call_network(
    model: Any, params: PyTree, extra: PyTree, images: Array, *, train: bool, **options: Any
) -> tuple[Array, PyTree]:
    """Calls a network, in training with its statistics as it goes.

    Args:
        model: a flax module whose call has the keyword `train`.
        params: its parameters.
        extra: its other collections, empty where there are none.
        images: ``[B, H, W, C]``.
        train: whether the statistics are those of the batch, and are updated.
        **options: further keywords of the call in training, such as the `mask` of real examples.

    Returns:
        Scores ``[B, K]``, and the new collections.
    """
    variables = {"params": params, **extra}
    if train and extra:
        return model.apply(variables, images, train=True, mutable=list(extra), **options)
    return model.apply(variables, images, train=False), extra


def scorer(model: Any, variables: Variables) -> Callable[[Any], Array]:
    """Makes a compiled function of a trained network.

    Args:
        model: a flax module; equal ones share one program.
        variables: parameters and other collections.

    Returns:
        Images ``[B, H, W, C]`` to scores ``[B, K]``, which stay on the device.
    """
    return functools.partial(_scores(model), *jax.device_put(variables))


@functools.lru_cache(maxsize=16)
def _scores(model: Any) -> Callable:
    return jax.jit(
        lambda params, extra, images: call_network(model, params, extra, images, train=False)[0]
    )


def apply_in_chunks(
    function: Callable[[np.ndarray], Array], images: np.ndarray, *, chunk: int = 500
) -> np.ndarray:
    """Calls a compiled function with so many images at a time: one size is one compilation.

    Args:
        function: images to an array with the same leading axis.
        images: ``[N, ...]``.
        chunk: how many at a time.

    Returns:
        The results of all images, on the host.

    Example:
        >>> apply_in_chunks(lambda images: 2 * images, np.arange(5), chunk=2).tolist()
        [0, 2, 4, 6, 8]
    """
    images = np.asarray(images)
    # The last chunk is filled with images again, which are dropped.
    padded = np.concatenate([images, np.resize(images, (-len(images) % chunk, *images.shape[1:]))])
    chunks = padded.reshape(-1, chunk, *images.shape[1:])
    return np.concatenate([np.asarray(function(each)) for each in chunks])[: len(images)]


def percent_right(predict: Callable[[Any], Array], part: Mapping[str, np.ndarray]) -> float:
    """The accuracy of a compiled function on a set in memory.

    Args:
        predict: images to scores ``[B, K]``.
        part: `image` and `label`.

    Returns:
        Percent.

    Example:
        >>> part = {"image": np.eye(4, dtype=np.float32), "label": np.array([0, 1, 2, 0])}
        >>> percent_right(lambda images: images, part)
        75.0
    """
    scores = apply_in_chunks(predict, part["image"])
    return 100 * float((scores.argmax(-1) == part["label"]).mean())
