"""Labels that are stored: forms, and files that say to which images and geometry they belong."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax.distill.labels._files import encode_labels, label_fingerprint
from lnl_jax.distill.labels._geometry import geometry_fingerprint
from lnl_jax.distill.labels._pool import pool_steps, pooled_step
from lnl_jax.distill.labels._quantized import dequantize, quantize
from lnl_jax.distill.labels._sources import LabelSource, model_labels, stored_labels
from lnl_jax.distill.labels._top import complete_logit_fill, keep_top
from lnl_jax.distill.labels._views import Views, in_order, step_geometry

# logits -> (arrays of the file, logits that are read back)
Form = Callable[[Array], tuple[Mapping[str, Any], Array]]


class StoredLabels(NamedTuple):
    """Labels that were written to a file.

    Attributes:
        logits: as a student reads them back, float32 ``[steps, B, K]``.
        file: its bytes.
    """

    logits: np.ndarray
    file: bytes


def logits_of_all_steps(predict: Callable[[Any], Array], images: np.ndarray) -> np.ndarray:
    """Labels of all steps from a network: those that it would make online.

    Args:
        predict: images to logits on the device.
        images: ``[steps, B, H, W, C]``.

    Returns:
        ``[steps, B, K]`` on the host.
    """
    return np.stack(jax.device_get([predict(each) for each in images]))


def half_form(logits: Array) -> tuple[Mapping[str, Any], Array]:
    """Logits in float16.

    Args:
        logits: ``[..., K]``.

    Returns:
        The arrays of the file, and what is read back.
    """
    half = logits.astype(jnp.float16)
    return {"logits": half}, half


def bytes_form(logits: Array) -> tuple[Mapping[str, Any], Array]:
    """Logits in a byte each, as of `quantize`.

    Args:
        logits: ``[..., K]``.

    Returns:
        The arrays of the file, and what is read back.
    """
    compact = quantize(logits)
    return compact._asdict(), dequantize(compact)


def top_form(logits: Array, *, top: int = 3) -> tuple[Mapping[str, Any], Array]:
    """The largest logits of each row in float16, as of `keep_top`.

    Args:
        logits: ``[..., K]``.
        top: how many.

    Returns:
        The arrays of the file, and what is read back.
    """
    compact = keep_top(logits.astype(jnp.float16), top)
    return compact._asdict(), complete_logit_fill(compact, num_classes=logits.shape[-1])


def store_labels(
    logits: np.ndarray,
    form: Form,
    *,
    pixels: np.ndarray,
    classes: np.ndarray,
    views: Views,
    seed: int,
) -> StoredLabels:
    """Puts labels in a file that says which images, seed and geometry they belong to.

    Args:
        logits: of the stored steps, ``[steps, B, K]``.
        form: `half_form`, `bytes_form`, `top_form` or the like.
        pixels: of the distilled set, ``[N, H, W, C]``.
        classes: theirs, ``[N]``.
        views: of the student's training.
        seed: of the geometry.

    Returns:
        What a student reads back, and the file.
    """
    arrays, read = form(jnp.asarray(logits))
    drawn = geometry_fingerprint(lambda step: step_geometry(views, step))
    belongs_to = label_fingerprint(pixels, classes, seed=seed, geometry=drawn)
    return StoredLabels(np.asarray(read, np.float32), encode_labels(arrays, belongs_to))


def store_predictions(
    predict: Callable[[Any], Array] | None,
    form: Form,
    views: Views,
    *,
    pixels: np.ndarray,
    classes: np.ndarray,
    seed: int,
    keep: int = 1,
    logits: np.ndarray | None = None,
) -> tuple[Views, StoredLabels]:
    """Stores what a network says of the views of a training, of each step or of one in so many.

    Args:
        predict: images to logits on the device.
        form: as of `store_labels`.
        views: of the training.
        pixels: of the distilled set, ``[N, H, W, C]``.
        classes: theirs, ``[N]``.
        seed: of the geometry.
        keep: LPLD stores one step in so many; the student goes through this pool again and again.
        logits: what `predict` says of all views, ``[steps, B, K]``, where it is known already.

    Returns:
        The views in the order in which the student sees them, and their labels.

    References:
        Xiao et al., "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?"
        (LPLD, NeurIPS 2024).
    """
    steps = len(views.images)
    pool = pool_steps(steps, keep)
    if logits is None:
        made = logits_of_all_steps(predict, views.images[:pool])
    else:
        made = logits[:pool]
    stored = store_labels(made, form, pixels=pixels, classes=classes, views=views, seed=seed)
    if keep == 1:
        return views, stored
    drawn = jax.jit(jax.vmap(lambda step: pooled_step(seed, step, pool)))(jnp.arange(steps))
    order = np.asarray(drawn)
    return in_order(views, order), stored._replace(logits=stored.logits[order])


# By name: the form, and of how many steps one is stored.
FORMS: dict[str, tuple[Form, int]] = {
    "float16": (half_form, 1),
    "pruned": (half_form, 10),
    "bytes": (bytes_form, 1),
    "top3": (top_form, 1),
}


def labelled_views(
    views: Views,
    predict: Callable[[Any], Array] | None,
    form: str | None,
    *,
    pixels: np.ndarray,
    classes: np.ndarray,
    seed: int,
    logits: np.ndarray | None = None,
) -> tuple[Views, LabelSource | None, bytes]:
    """The labels of a training: stored, made online, or none.

    Args:
        views: of the training.
        predict: images to logits on the device; None for classes alone, or with `logits`.
        form: a name of `FORMS`; None for labels that are made online.
        pixels: of the distilled set, ``[N, H, W, C]``.
        classes: theirs, ``[N]``.
        seed: of the geometry.
        logits: what `predict` says of all views, ``[steps, B, K]``, where it is known already.

    Returns:
        The views in the order in which a student sees them, the source of its labels, and the file
        of stored ones, empty where there are none.
    """
    if predict is None and logits is None:
        return views, None, b""
    if form is None:
        source = model_labels(predict) if logits is None else stored_labels(logits)
        return views, source, b""
    belongs_to = {"pixels": pixels, "classes": classes, "seed": seed, "logits": logits}
    how, keep = FORMS[form]
    views, stored = store_predictions(predict, how, views, keep=keep, **belongs_to)
    return views, stored_labels(stored.logits), stored.file
