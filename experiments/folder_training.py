"""What is trained on all images of a folder: a small CLIP, teachers, a projector; pass by pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.arguments import StudyError
from experiments.clip_foundation import clip_encoder
from experiments.descent import initial
from experiments.folder_parts import Reading, cropped_pass
from experiments.foundation_models import Foundation
from experiments.low_rank_projectors import label_dtype
from experiments.words import word_tokenizer
from lnl_jax import data, distill, models, train

PyTree = Any
# (state, batch, constants) -> (state, metrics)
Step = Callable[[train.TrainState, Mapping, PyTree], tuple[train.TrainState, dict]]
CONTEXT, WIDTH, DEPTH = 16, 64, 2


def passes(
    step: Step,
    state: train.TrainState,
    constants: PyTree,
    part: data.ImageFolder,
    reading: Reading,
    *,
    seed: int,
    count: int,
) -> Iterator[tuple[train.TrainState, int, float]]:
    """Trains from where the state is to the end of the last pass.

    Args:
        step: of `compiled`.
        state: at the end of a pass, or the first one.
        constants: of the step.
        part: the images.
        reading: how they are read.
        seed: of order and crops.
        count: passes in all.

    Yields:
        After each pass the state, the number of passes so far, and the mean loss.
    """
    steps = -(-len(part.files) // reading.batch_size)
    constants = jax.device_put(constants)
    for number in range(int(state.step) // steps, count):
        losses = []
        for batch in cropped_pass(part, reading, seed, number):
            state, found = step(state, batch, constants)
            losses.append(found["loss"])
        yield state, number + 1, float(np.mean(jax.device_get(losses)))


def cosine(
    learning_rate: float,
    part: data.ImageFolder,
    reading: Reading,
    count: int,
    *,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """AdamW whose learning rate falls to 0 in so many passes along a cosine."""
    steps = -(-len(part.files) // reading.batch_size) * count
    return optax.adamw(
        optax.cosine_decay_schedule(learning_rate, steps),
        weight_decay=weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )


def compiled(loss: Callable, tx: optax.GradientTransformation) -> Step:
    """A step for `passes`: the loss is ``(params, extra, batch, constants) -> (losses, extra)``."""

    @jax.jit
    def step(state, batch, constants):
        images = batch["image"].astype(jnp.float32) / 255

        def of_batch(params, extra, rows, batch, key):
            losses, extra = loss(params, extra, batch | {"image": images}, constants)
            return losses, (extra, rows, {})

        return train.make_train_step(of_batch, tx)(state, batch)

    return step


def teacher_loss(model: Any) -> Callable:
    """Cross-entropy of a network with classes."""

    def loss(params, extra, batch, constants):
        variables = {"params": params, **extra}
        options = {"train": True, "mask": batch["mask"], "mutable": list(extra)}
        scores, updated = model.apply(variables, batch["image"], **options)
        return optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"]), updated

    return loss


def teacher_start(
    model: Any, tx: optax.GradientTransformation, size: int, seed: int
) -> train.TrainState:
    """A fresh network; its statistics are the state's `extra`."""
    images = np.zeros((2, size, size, 3), np.float32)
    params, fixed = initial(model, jax.random.key(seed + 100), images)
    return train.init_state(params, tx, key=jax.random.key(seed), extra=fixed)


def projector_loss(model: Any, ce_weight: float) -> Callable:
    """HeLlO's objective; its constants are the foundation model and stacked `teachers`.

    Args:
        model: of the teachers, whose mean logits for the very same crops are followed.
        ce_weight: of the classes.
    """

    def loss(params, extra, batch, constants):
        foundation, teachers = constants
        images = batch["image"]
        scores = jax.vmap(lambda variables: model.apply(variables, images))(teachers)

        def encode(tower, images):
            return foundation.encode(tower, images, label_dtype())

        logits = distill.projectors.project(
            encode, foundation.tower, foundation.words, params, images
        )
        targets = distill.projectors.weak_targets(scores)
        labels = batch["label"]
        return distill.projectors.projector_loss(
            logits, targets, labels, ce_weight=ce_weight
        ), extra

    return loss


def small_clip(
    class_names: Sequence[str], templates: Sequence[str], image_size: int
) -> tuple[models.CLIP, np.ndarray]:
    """A small CLIP for images of this size, and the tokens of every class in every template.

    Args:
        class_names: K of them.
        templates: M texts, each with ``{}`` for the name.
        image_size: a multiple of 8: an image becomes 64 patches.

    Returns:
        The module, and ids ``[M, K, T]``.

    Raises:
        StudyError: if the size is no multiple of 8.
    """
    if image_size < 8 or image_size % 8:
        raise StudyError(f"image_size must be a multiple of 8 without --clip, got {image_size}.")
    texts = [[template.replace("{}", name) for name in class_names] for template in templates]
    flat = [text for of_template in texts for text in of_template]
    tokenize, vocabulary = word_tokenizer(flat, context_length=CONTEXT, max_words=20_000)
    sizes = {"width": WIDTH, "depth": DEPTH, "heads": 1}
    image = models.VisionTower(WIDTH, image_size, image_size // 8, **sizes)
    text = models.TextTower(WIDTH, vocabulary, CONTEXT, **sizes)
    return models.CLIP(image, text), np.stack([tokenize(of_template) for of_template in texts])


def clip_loss(model: models.CLIP) -> Callable:
    """Cross-entropy of an image among the texts of all classes; its constants are their tokens."""
    encode = clip_encoder(model.image)

    def loss(params, extra, batch, ids):
        features = distill.projectors.unit_rows(encode({"params": params["image"]}, batch["image"]))
        logits = jnp.exp(params["logit_scale"]) * (features @ class_words(model, params, ids))
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]), extra

    return loss


def class_words(model: models.CLIP, params: PyTree, ids: jax.Array) -> jax.Array:
    """Unit embeddings of the classes, averaged over templates, ``[D, K]``."""
    texts = model.text.apply({"params": params["text"]}, ids.reshape(-1, ids.shape[-1]))
    units = distill.projectors.unit_rows(texts).reshape(*ids.shape[:2], -1)
    return distill.projectors.unit_rows(units.mean(0)).T


def clip_start(
    model: models.CLIP, tx: optax.GradientTransformation, ids: np.ndarray, seed: int
) -> train.TrainState:
    """A fresh CLIP."""
    size = model.image.image_size
    example = jnp.zeros((1, size, size, 3)), jnp.asarray(ids[0, :1])
    params = jax.jit(model.init)(jax.random.key(seed), *example)["params"]
    return train.init_state(params, tx, key=jax.random.key(seed))


def as_foundation(model: models.CLIP, params: PyTree, ids: np.ndarray) -> Foundation:
    """What a projector needs of a small CLIP."""
    return Foundation(
        tower={"params": params["image"]},
        words=class_words(model, params, jnp.asarray(ids)),
        scale=jnp.exp(params["logit_scale"]),
        encode=clip_encoder(model.image),
        targets=distill.projectors.VIT_TARGETS,
    )
