"""The ledger of a run, and the scores of its table of students."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from lnl_jax.distill.ledger._scores import augmentation_robust_score, label_robust_score
from lnl_jax.distill.ledger._storage import (
    Entry,
    label_bytes,
    ledger_table,
    quantized_label_bytes,
    tree_bytes,
)

PyTree = Any
# LPLD's share of the labels, one in so many.
PRUNED = 10


def run_ledger(
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
    full = label_bytes(images, epochs, num_classes)
    entries = [
        Entry("images and classes, file", "uint8", images_file),
        Entry("adapter, file", "float16", adapter_file),
        Entry("geometry: a seed", "", 0),
        Entry("public tower", "float32", tree_bytes(tower), counted=False),
        Entry("public words", "float32", tree_bytes(words), counted=False),
    ]
    entries += [
        Entry(f"instead: {form} labels, file", "", size, counted=False)
        for form, size in label_files.items()
    ]
    formulas = {
        "stored logits": ("float16", full),
        "stored logits, one in ten": ("float16", full // PRUNED),
        "logits as bytes": ("uint8", quantized_label_bytes(images, epochs, num_classes)),
        "ship the teacher": ("float16", tree_bytes(teacher, jnp.float16)),
    }
    entries += [
        Entry(f"instead: {name}, formula", dtype, size, counted=False)
        for name, (dtype, size) in formulas.items()
    ]
    return ledger_table(entries, against=full)


def robust_score_table(
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
            line["label-robust score"] = label_robust_score(
                real_hard=teacher, synthetic_hard=hard, synthetic_any=soft, random_any=control
            )
        if None not in (soft, control, plain, plain_control):
            line["augmentation-robust score"] = augmentation_robust_score(
                synthetic_augmented=soft,
                random_augmented=control,
                synthetic_plain=plain,
                random_plain=plain_control,
            )
        if len(line) > 1:
            table.append(line)
    return table
