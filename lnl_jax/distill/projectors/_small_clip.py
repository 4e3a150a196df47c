"""A small CLIP for the images and class names at hand, where no pretrained one is."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax import models
from lnl_jax.distill.projectors._clip_foundation import clip_encoder
from lnl_jax.distill.projectors._foundation import Foundation
from lnl_jax.distill.projectors._logits import zero_shot_logits
from lnl_jax.distill.projectors._projector import VIT_TARGETS
from lnl_jax.distill.training import NetworkTraining
from lnl_jax.evaluation import unit_rows

PyTree = Any
CONTEXT, WIDTH, DEPTH = 16, 64, 2


@dataclasses.dataclass(frozen=True, eq=False)
class SmallClip:
    """A CLIP that learns which of the classes' texts an image has.

    Attributes:
        model: the module of both towers.
        ids: tokens of the K classes in M templates, ``[M, K, T]``.
    """

    model: models.CLIP
    ids: np.ndarray

    def initial_params(self, seed: int) -> PyTree:
        """The parameters before training."""
        size = self.model.image.image_size
        example = jnp.zeros((1, size, size, 3)), jnp.asarray(self.ids[0, :1])
        return jax.jit(self.model.init)(jax.random.key(seed), *example)["params"]

    def loss(self) -> Callable:
        """Cross-entropy among the texts of all classes, a loss for `step_with`.

        Its batches have `image`, bytes ``[B, H, W, 3]``, and `label`; its constants are the `ids`.
        """
        encode = clip_encoder(self.model.image)

        def loss(ids, params, extra, rows, batch, key):
            images = batch["image"].astype(jnp.float32) / 255
            features = unit_rows(encode({"params": params["image"]}, images))
            logits = jnp.exp(params["logit_scale"]) * (features @ self._words(params, ids))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return losses, (extra, rows, {})

        return loss

    def training(self, seed: int) -> NetworkTraining:
        """The training on streamed batches; it is measured as zero-shot classification."""
        return NetworkTraining(
            self.loss(),
            self.ids,
            self.initial_params(seed),
            lambda params, extra: zero_shot_logits(self.foundation(params)),
        )

    def foundation(self, params: PyTree) -> Foundation:
        """What a projector needs of it."""
        return Foundation(
            tower={"params": params["image"]},
            words=self._words(params, jnp.asarray(self.ids)),
            scale=jnp.exp(params["logit_scale"]),
            encode=clip_encoder(self.model.image),
            targets=VIT_TARGETS,
        )

    def _words(self, params: PyTree, ids: Array) -> Array:
        """Unit embeddings of the classes, averaged over templates, ``[D, K]``."""
        texts = self.model.text.apply({"params": params["text"]}, ids.reshape(-1, ids.shape[-1]))
        units = unit_rows(texts).reshape(*ids.shape[:2], -1)
        return unit_rows(units.mean(0)).T


def small_clip(
    class_names: Sequence[str],
    templates: Sequence[str],
    image_size: int,
    *,
    dtype: Any = jnp.float32,
) -> SmallClip:
    """Makes a small CLIP for images of this size.

    Args:
        class_names: K of them.
        templates: M texts, each with ``{}`` for the name.
        image_size: a multiple of 8: an image becomes 64 patches.
        dtype: in which it computes.

    Returns:
        The module, with the tokens of the classes.

    Raises:
        ValueError: if the size is no multiple of 8.
    """
    if image_size < 8 or image_size % 8:
        raise ValueError(f"image_size must be a multiple of 8 for a small CLIP, got {image_size}.")
    texts = [[template.replace("{}", name) for name in class_names] for template in templates]
    flat = [text for of_template in texts for text in of_template]
    tokenize, vocabulary = models.word_tokenizer(flat, context_length=CONTEXT, max_words=20_000)
    sizes = {"width": WIDTH, "depth": DEPTH, "heads": 1, "dtype": dtype}
    image = models.VisionTower(WIDTH, image_size, image_size // 8, **sizes)
    text = models.TextTower(WIDTH, vocabulary, CONTEXT, **sizes)
    ids = np.stack([tokenize(of_template) for of_template in texts])
    return SmallClip(models.CLIP(image, text), ids)
