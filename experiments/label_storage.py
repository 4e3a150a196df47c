"""Labels that are stored in files, and the ledger of what a distilled set costs in bytes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.augmented_views import Views, step_geometry
from experiments.distilled_images import ImageSet
from lnl_jax import distill

PyTree = Any
PRUNED, TOP = 10, 3


class Stored(NamedTuple):
    """Labels as a student reads them back, float32 ``[steps, B, K]``, and their file."""

    logits: np.ndarray
    file: bytes


def live(source: Callable[[Any], jax.Array], views: Views) -> np.ndarray:
    """Labels of all steps from a network, ``[steps, B, K]``: those that it would make online."""
    return np.stack(jax.device_get([source(images) for images in views.images]))


def _half(logits: jax.Array) -> tuple[Mapping[str, Any], jax.Array]:
    half = logits.astype(jnp.float16)
    return {"logits": half}, half


def _as_bytes(logits: jax.Array) -> tuple[Mapping[str, Any], jax.Array]:
    compact = distill.labels.quantize(logits)
    return compact._asdict(), distill.labels.dequantize(compact)


def _largest(logits: jax.Array) -> tuple[Mapping[str, Any], jax.Array]:
    compact = distill.labels.keep_top(logits.astype(jnp.float16), TOP)
    return compact._asdict(), distill.labels.complete_logit_fill(
        compact, num_classes=logits.shape[-1]
    )


# name of a form -> logits -> (arrays of the file, logits that are read back)
FORMS: dict[str, Callable[[jax.Array], tuple[Mapping[str, Any], jax.Array]]] = {
    "float16": _half,
    "pruned": _half,
    "bytes": _as_bytes,
    "top3": _largest,
}


def store(logits: np.ndarray, form: str, images: ImageSet, views: Views, seed: int) -> Stored:
    """Labels in a file that says which images, seed and geometry they belong to.

    Args:
        logits: of the stored steps, ``[steps, B, K]``.
        form: a name of `FORMS`.
        images: the distilled set.
        views: of the student's training.
        seed: of the geometry.

    Returns:
        What a student reads back, and the file.
    """
    arrays, read = FORMS[form](jnp.asarray(logits))
    fingerprint = distill.labels.geometry_fingerprint(lambda step: step_geometry(views, step))
    belongs_to = distill.labels.label_fingerprint(
        images.pixels, images.classes, seed=seed, geometry=fingerprint
    )
    return Stored(np.asarray(read, np.float32), distill.labels.encode_labels(arrays, belongs_to))


def ledger(
    *,
    images: int,
    epochs: int,
    num_classes: int,
    images_file: int,
    adapter_file: int,
    label_files: Mapping[str, int],
    tower: PyTree,
    words: PyTree,
    teacher: PyTree,
) -> list[dict[str, Any]]:
    """What the projector's way stores, and what others would instead.

    Args:
        images: of the distilled set.
        epochs: of a student's training.
        num_classes: K.
        images_file: bytes of the file of images and classes.
        adapter_file: bytes of the adapter's file.
        label_files: bytes of the files of stored labels, by their form.
        tower: the public one, which does not count.
        words: what the head starts from, as public as the tower.
        teacher: which one could store instead.

    Returns:
        A row per line; `counted` says whether it enters the total.
    """
    full = distill.ledger.label_bytes(images, epochs, num_classes)
    entries = [
        distill.ledger.Entry("images and classes, file", "uint8", images_file),
        distill.ledger.Entry("adapter, file", "float16", adapter_file),
        distill.ledger.Entry("geometry: a seed", "", 0),
        distill.ledger.Entry(
            "public tower", "float32", distill.ledger.tree_bytes(tower), counted=False
        ),
        distill.ledger.Entry(
            "public words", "float32", distill.ledger.tree_bytes(words), counted=False
        ),
    ]
    entries += [
        distill.ledger.Entry(f"instead: {form} labels, file", "", size, counted=False)
        for form, size in label_files.items()
    ]
    formulas = {
        "stored logits": ("float16", full),
        "stored logits, one in ten": ("float16", full // PRUNED),
        "logits as bytes": (
            "uint8",
            distill.ledger.quantized_label_bytes(images, epochs, num_classes),
        ),
        "ship the teacher": ("float16", distill.ledger.tree_bytes(teacher, jnp.float16)),
    }
    entries += [
        distill.ledger.Entry(f"instead: {name}, formula", dtype, size, counted=False)
        for name, (dtype, size) in formulas.items()
    ]
    return distill.ledger.ledger_table(entries, against=full)


def robust_scores(
    accuracies: Mapping[tuple[str, int], float],
    *,
    teacher: float,
    rows: tuple[str, str, str],
    per_class: Sequence[int],
    plain_rows: tuple[str, str] = ("", ""),
) -> list[dict[str, Any]]:
    """DD-Ranking's scores, robust to labels and to augmentation, where their rows were run.

    Args:
        accuracies: fractions by row and images per class.
        teacher: accuracy of a network trained on all real images and classes, a fraction.
        rows: distilled images with classes, with soft labels, and random images with soft labels,
            all with augmentation.
        per_class: sizes of the set.
        plain_rows: the last two without augmentation.

    Returns:
        A row per size.
    """
    table = []
    for count in per_class:
        found = [accuracies.get((row, count)) for row in (*rows, *plain_rows)]
        hard, soft, control, plain, plain_control = found
        line = {"per class": count}
        if None not in (hard, soft, control):
            line["label-robust score"] = distill.ledger.label_robust_score(
                real_hard=teacher, synthetic_hard=hard, synthetic_any=soft, random_any=control
            )
        if None not in (soft, control, plain, plain_control):
            line["augmentation-robust score"] = distill.ledger.augmentation_robust_score(
                synthetic_augmented=soft,
                random_augmented=control,
                synthetic_plain=plain,
                random_plain=plain_control,
            )
        if len(line) > 1:
            table.append(line)
    return table
