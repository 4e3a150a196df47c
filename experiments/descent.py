"""Training a small network by AdamW, a compiled step at a time, and asking it for scores."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

PyTree = Any

# Images that a network looks at in one call; one size for all calls is one compilation.
CHUNK = 500


def descend(
    loss: Callable[..., tuple[jax.Array, PyTree]],
    variables: tuple[PyTree, PyTree],
    batches: Mapping[str, np.ndarray],
    *,
    learning_rate: float,
    weight_decay: float = 0.01,
    constants: PyTree = (),
    keep: Sequence[int] = (),
) -> tuple[tuple[PyTree, PyTree], list[tuple[PyTree, PyTree]]]:
    """AdamW with a cosine to 0, step by step from Python: convolutions are slow in a loop.

    Runs of the same loss share one program, whatever their length, learning rate and data.

    Args:
        loss: ``(trained, fixed, batch, constants) -> (mean loss, fixed)``; `fixed` are statistics.
        variables: ``(trained, fixed)``.
        batches: arrays ``[steps, B, ...]``.
        learning_rate: the first.
        weight_decay: of matrices and kernels.
        constants: arrays that the loss needs in every step.
        keep: numbers of steps after which to keep the variables.

    Returns:
        The last variables, and those that were to be kept.
    """
    ends, kept = descend_together(
        loss,
        [variables],
        in_steps(batches),
        len(next(iter(batches.values()))),
        learning_rates=[learning_rate],
        weight_decay=weight_decay,
        constants=constants,
        keep=keep,
    )
    return ends[0], [runs[0] for runs in kept]


def descend_together(
    loss: Callable[..., tuple[jax.Array, PyTree]],
    variables: Sequence[tuple[PyTree, PyTree]],
    batches: Iterable[Mapping[str, Any]],
    steps: int,
    *,
    learning_rates: Sequence[float],
    weight_decay: float = 0.01,
    constants: PyTree = (),
    keep: Sequence[int] = (),
) -> tuple[list[tuple[PyTree, PyTree]], list[list[tuple[PyTree, PyTree]]]]:
    """Several networks on the same batches, each as `descend` would train it.

    Nothing here waits for the device: steps are dispatched as fast as batches come.

    Args:
        loss: as of `descend`.
        variables: ``(trained, fixed)`` of each network.
        batches: one for each step, of arrays on the host or on the device.
        steps: how many they are.
        learning_rates: the first, of each network.
        weight_decay: of matrices and kernels.
        constants: arrays that the loss needs in every step.
        keep: numbers of steps after which to keep the variables.

    Returns:
        The last variables of each network, and those of all networks for each step of `keep`.
    """
    program, tx = _program(loss, weight_decay), _optimizer(weight_decay)
    constants = jax.device_put(constants)
    runs = [(trained, fixed, tx.init(trained)) for trained, fixed in variables]
    kept = []
    for step, batch in enumerate(batches):
        batch = jax.device_put(batch)
        for index, learning_rate in enumerate(learning_rates):
            rate = np.float32(learning_rate * (1 + math.cos(math.pi * step / steps)) / 2)
            runs[index] = program(*runs[index], batch, constants, rate)
        if step + 1 in keep:
            kept.append([run[:2] for run in runs])
    return [run[:2] for run in runs], kept


def in_steps(batches: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The batches of arrays ``[steps, B, ...]``, one after the other."""
    for step in range(len(next(iter(batches.values())))):
        yield {name: values[step] for name, values in batches.items()}


@functools.lru_cache(maxsize=64)
def _program(loss: Callable, weight_decay: float) -> Callable:
    tx = _optimizer(weight_decay)

    @jax.jit
    def program(trained, fixed, state, batch, constants, rate):
        gradient, fixed = jax.grad(loss, has_aux=True)(trained, fixed, batch, constants)
        update, state = tx.update(gradient, state, trained)
        trained = jax.tree.map(lambda value, change: value - rate * change, trained, update)
        return trained, fixed, state

    return program


def _optimizer(weight_decay: float) -> optax.GradientTransformation:
    def of_matrices(tree):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, tree)

    decayed = optax.add_decayed_weights(weight_decay, mask=of_matrices)
    return optax.chain(optax.scale_by_adam(), decayed)


def initial(model: Any, key: jax.Array, images: np.ndarray) -> tuple[PyTree, PyTree]:
    """Parameters, and what else a network has, for images of this shape."""
    variables = _initializer(model)(key, jnp.asarray(images[:2]))
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


@functools.lru_cache(maxsize=16)
def _initializer(model: Any) -> Callable:
    return jax.jit(model.init)


def call(model: Any, trained: PyTree, fixed: PyTree, images: jax.Array, *, train: bool):
    """Scores and new statistics."""
    variables = {"params": trained, **fixed}
    if train and fixed:
        return model.apply(variables, images, train=True, mutable=list(fixed))
    return model.apply(variables, images, train=False), fixed


def scorer(model: Any, variables: tuple[PyTree, PyTree]) -> Callable[[Any], jax.Array]:
    """Images to scores, which stay on the device."""
    return functools.partial(_scores(model), *jax.device_put(variables))


def predictor(model: Any, variables: tuple[PyTree, PyTree]) -> Callable[[np.ndarray], np.ndarray]:
    """Images to scores, in chunks."""
    return functools.partial(in_chunks, scorer(model, variables))


@functools.lru_cache(maxsize=16)
def _scores(model: Any) -> Callable:
    return jax.jit(
        lambda trained, fixed, images: call(model, trained, fixed, images, train=False)[0]
    )


def in_chunks(function: Callable[[np.ndarray], jax.Array], images: np.ndarray) -> np.ndarray:
    """A compiled function of images ``[N, ...]``, called with `CHUNK` of them at a time."""
    images = np.asarray(images)
    # The last chunk is filled with images again, which are dropped.
    padded = np.concatenate([images, np.resize(images, (-len(images) % CHUNK, *images.shape[1:]))])
    chunks = padded.reshape(-1, CHUNK, *images.shape[1:])
    return np.concatenate([np.asarray(function(chunk)) for chunk in chunks])[: len(images)]


def accuracy(predict: Callable[[np.ndarray], np.ndarray], part: Mapping) -> float:
    """On the images of a part, in percent."""
    return 100 * float((predict(part["image"]).argmax(-1) == part["label"]).mean())
