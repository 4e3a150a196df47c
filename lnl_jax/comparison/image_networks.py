"""Networks of images: augmentation, batch statistics, scores a chunk at a time, runs in turn."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lnl_jax import data, train
from lnl_jax.comparison.networks import Network
from lnl_jax.data import augment
from lnl_jax.train.sharding import rows_of_this_process, whole_batch

PyTree = Any
Augmentation = Callable[[jax.Array, jax.Array], jax.Array]

# Images whose scores are computed at once where nothing is trained.
SCORED_AT_ONCE = 500


def convolutional(
    model: Any, num_classes: int, stats: PyTree, augmentation: Augmentation, *, padded: bool
) -> Network:
    """A network of images; the views of an image are augmented independently.

    The images of a part are ``part["image"]``, or where it has none the rows ``part["index"]`` of
    ``known["image"]``; ``known["mean"]`` and ``known["std"]`` standardise them. Images that are
    NumPy arrays or memory maps stay on the host, and a chunk at a time goes to the device: to
    compile `scores` whole would move them all there.

    Args:
        model: from `lnl_jax.models`, with batch statistics or without.
        num_classes: K.
        stats: its initial batch statistics.
        augmentation: ``(key, images) -> images``.
        padded: whether batches have padding, which must not enter the batch statistics.

    Returns:
        The `Network`, whose parameters are the variables' ``params``.
    """

    def training_scores(params, stats, known, batch, key, views):
        images = batch["image"] if "image" in batch else known["image"][batch["index"]]
        images = jnp.concatenate([images] * (views or 1))
        images = augment.to_float(augmentation(key, images), known["mean"], known["std"])
        mask = jnp.tile(batch["mask"], views or 1) if padded else None
        variables = {"params": params, "batch_stats": stats}
        found, updated = model.apply(
            variables, images, train=True, mask=mask, mutable=["batch_stats"]
        )
        if views is not None:
            found = found.reshape(views, -1, num_classes)
        return found, updated.get("batch_stats", stats)

    @jax.jit
    def score(params, stats, mean, std, images):
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, augment.to_float(images, mean, std))

    def scores(params, stats, known, part):
        score_images = functools.partial(score, params, stats, known["mean"], known["std"])
        images = part["image"] if "image" in part else known["image"]
        rows = np.arange(len(images)) if "image" in part else part["index"]
        if isinstance(images, np.ndarray):
            return in_chunks(
                lambda rows: score_images(images[np.asarray(rows)]), rows, _map_on_host
            )
        if "image" in part:
            return in_chunks(score_images, images)
        return in_chunks(lambda rows: score_images(images[rows]), rows)

    return Network(num_classes, stats, training_scores, scores)


def image_runs(
    trainer: train.Trainer,
    settings: Any,
    data_sets: Sequence[Mapping],
    *,
    streamed: bool,
    mesh: Mesh | None = None,
    shard_tables: bool = False,
) -> train.Runs:
    """The runs of a network that fills the machine alone, one after the other.

    Args:
        trainer: what a run does.
        settings: arrays with a leading axis of settings.
        data_sets: dicts with ``train``, whose ``index`` says which rows of ``known["image"]`` are
            trained on, and ``test`` with images.
        streamed: whether these images are larger than the device: they stay on the host, threads
            make the batches with their ``image``, and `measure`, which gets the images as they are,
            is not compiled whole.
        mesh: over whose devices each batch is split; None takes one device.
        shard_tables: whether the rows of tables are split over them too.

    Returns:
        The `Runs`.
    """
    devices = {"mesh": mesh, "split_tables": shard_tables}
    if not streamed:
        return train.in_turn(trainer, settings, data_sets, **devices)

    def batches(index, rows):
        training = dict(data_sets[index]["train"])
        training["position"] = np.arange(len(training["index"]), dtype=np.int32)
        training["image"] = _Rows(data_sets[index]["known"]["image"], training["index"])
        if mesh is None or not mesh.is_multi_process:
            return data.stream(training, rows)
        # Each process reads its own share of each batch, and no other's images.
        own = data.stream(training, rows_of_this_process(rows, mesh, axis=1))
        return (whole_batch(batch, mesh) for batch in own)

    on_device = [
        {**each, "known": {k: v for k, v in each["known"].items() if k != "image"}, "test": {}}
        for each in data_sets
    ]
    return train.in_turn(
        trainer, settings, on_device, batches=batches, measured=data_sets, **devices
    )


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows of an array that belong to a part, read when they are asked for."""

    array: np.ndarray
    index: np.ndarray

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return self.array[self.index[positions]]


def in_chunks(
    function: Callable, array: jax.Array, map_chunks: Callable = jax.lax.map
) -> jax.Array:
    """A function of a batch on a long array, a chunk at a time.

    Args:
        function: ``[n, ...] -> [n, columns]``.
        array: ``[N, ...]``.
        map_chunks: how the chunks are gone through, `jax.lax.map` or one like it.

    Returns:
        ``[N, columns]``.
    """
    size = len(array)
    chunks = -(-size // SCORED_AT_ONCE)
    # As even as possible, and the last one padded with the first entries.
    length = -(-size // chunks)
    padded = jnp.concatenate([array, array[: chunks * length - size]])
    found = map_chunks(function, padded.reshape(chunks, length, *array.shape[1:]))
    return found.reshape(chunks * length, -1)[:size]


def _map_on_host(function: Callable, chunks: jax.Array) -> jax.Array:
    return jnp.stack([function(chunk) for chunk in chunks])


def crop_and_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Random crops of the images padded by four pixels, mirrored half of the time."""
    crop, flip = jax.random.split(key)
    return augment.random_flip(flip, augment.random_crop(crop, images))


def unaugmented(key: jax.Array, images: jax.Array) -> jax.Array:
    """The images as they are."""
    del key
    return images
