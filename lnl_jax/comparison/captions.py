"""Images with captions: towers by name, held-out pairs, embeddings, recall both ways."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, evaluation, models
from lnl_jax.comparison.encoders import Embed
from lnl_jax.data import augment
from lnl_jax.data.preprocess import CLIP_MEAN, CLIP_STD
from lnl_jax.runner.arguments import Count, Size, StudyError, refused


def resnet50(embed_dim: int, image_size: int, *, width: int = 64) -> models.ModifiedResNet:
    """CLIP's ResNet-50; the image size is a multiple of 32."""
    return models.ModifiedResNet(embed_dim, image_size, width=width)


def vit(
    embed_dim: int,
    image_size: int,
    *,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    patch_size: int = 4,
) -> models.ViT:
    """A small transformer; the image size is a multiple of the patch size."""
    del image_size
    return models.vit(embed_dim, width=width, depth=depth, heads=heads, patch_size=patch_size)


IMAGE_TOWERS: dict[str, Callable] = {"resnet50": resnet50, "vit": vit}


class Text(NamedTuple):
    """The text tower and its words.

    Attributes:
        width: of the tokens.
        depth: blocks.
        context_length: the longest caption, in tokens.
        vocabulary: a folder with CLIP's tokenizer.json, or vocab.json and merges.txt; none makes a
            vocabulary of the words of the captions.
        max_words: in that case, the most frequent ones.
    """

    width: Size = 512
    depth: Size = 12
    context_length: Size = 32
    vocabulary: str | None = None
    max_words: Count = 20_000

    def ids(self, captions: Sequence[str]) -> np.ndarray:
        """The captions in numbers, ``[N, context_length]``."""
        length = self.context_length
        if self.vocabulary is None:
            tokenize, _ = models.word_tokenizer(
                captions, context_length=length, max_words=self.max_words
            )
        else:
            with refused("text.vocabulary"):
                tokenize = models.load_tokenizer(self.vocabulary, context_length=length)
        return tokenize(captions)

    def tower(self, embed_dim: int, vocabulary: int) -> models.TextTower:
        """A new one."""
        return models.TextTower(
            embed_dim,
            vocabulary=vocabulary,
            context_length=self.context_length,
            width=self.width,
            depth=self.depth,
            heads=max(self.width // 64, 1),
        )


class Pairs(NamedTuple):
    """Images and captions that methods are trained or tested on.

    Attributes:
        pairs: images and captions.
        arrays: ``image``, ``ids`` and ``index``, for `data.stream`.
    """

    pairs: data.ImageText
    arrays: Mapping[str, Any]


def split_pairs(
    pairs: data.ImageText, ids: np.ndarray, test_pairs: int, seed: int
) -> tuple[Pairs, Pairs]:
    """The training pairs, in their order, and the held-out ones.

    Args:
        pairs: all of them.
        ids: their captions in numbers, ``[N, L]``.
        test_pairs: held out; at least two are left.
        seed: of the choice.

    Raises:
        StudyError: if fewer than two are left.
    """
    size = len(pairs.caption)
    if test_pairs > size - 2:
        raise StudyError(
            f"test_pairs must be from 1 to {size - 2}, as the folder has {size} pairs; got "
            f"{test_pairs}."
        )
    order = np.random.default_rng(seed).permutation(size)
    sides = []
    for rows in (np.sort(order[test_pairs:]), np.sort(order[:test_pairs])):
        some = pairs.take(rows)
        index = np.arange(len(rows), dtype=np.int32)
        sides.append(Pairs(some, {"image": some.image, "ids": ids[rows], "index": index}))
    return sides[0], sides[1]


def embed_pairs(model: models.CLIP, *, padded: bool) -> Embed:
    """Embeddings of cropped and mirrored images and of their captions, and new batch statistics.

    Args:
        model: of both towers.
        padded: whether batches have padding, which must not enter the batch statistics.
    """

    def embed(params, stats, batch, key):
        crop, flip = jax.random.split(key)
        images = augment.random_resized_crop(crop, batch["image"], scale=(0.5, 1.0))
        images = _standardized(augment.random_flip(flip, images))
        (image, text, _), updated = model.apply(
            {"params": params, "batch_stats": stats},
            images,
            batch["ids"],
            train=True,
            mask=batch["mask"] if padded else None,
            mutable=["batch_stats"],
        )
        rows = evaluation.unit_rows(image), evaluation.unit_rows(text)
        return rows, updated.get("batch_stats", stats)

    return embed


def _standardized(images: jax.Array) -> jax.Array:
    return augment.to_float(images, jnp.asarray(CLIP_MEAN), jnp.asarray(CLIP_STD))


def recalls(image: jax.Array, text: jax.Array) -> dict[str, float]:
    """How often the first of all images is that of the caption, and the other way.

    Args:
        image: embeddings of unit norm, ``[N, D]``.
        text: of the captions, likewise.
    """
    own = jnp.arange(len(image))
    return {
        "image to text": float((evaluation.retrieval_ranks(image, text, own) < 1).mean()),
        "text to image": float((evaluation.retrieval_ranks(text, image, own) < 1).mean()),
    }


def encode_pairs(model: models.CLIP) -> Callable:
    """A function ``(state, pairs, batch_size, num_threads) -> (images, captions)``.

    Args:
        model: of both towers.

    Returns:
        The function; it embeds a batch at a time, to unit norm, ``[N, D]`` each.
    """

    @jax.jit
    def encode(state, batch):
        variables = {"params": state.params, "batch_stats": state.extra}
        image, text, _ = model.apply(variables, _standardized(batch["image"]), batch["ids"])
        return evaluation.unit_rows(image), evaluation.unit_rows(text)

    def encode_all(state, pairs, batch_size, num_threads):
        size = len(pairs.pairs.caption)
        stream = data.stream(
            pairs.arrays, data.epoch_plan(size, batch_size), num_threads=num_threads
        )
        found = [encode(state, batch) for batch in stream]
        image, text = (jnp.concatenate(parts)[:size] for parts in zip(*found, strict=True))
        return image, text

    return encode_all
