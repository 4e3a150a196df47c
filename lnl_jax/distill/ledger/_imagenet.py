"""What distilled ImageNet-1K costs in bytes, by formula: labels, adapters, teachers, towers."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lnl_jax import models
from lnl_jax.distill.ledger._figures import storage_curve
from lnl_jax.distill.ledger._storage import (
    Entry,
    claimed_ratios,
    geometry_bytes,
    label_bytes,
    ledger_table,
    quantized_label_bytes,
    readable_size,
    top_label_bytes,
    tree_bytes,
)
from lnl_jax.distill.projectors._lora import count_parameters
from lnl_jax.distill.projectors._projector import RN50_TARGETS, VIT_TARGETS, projector_shapes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES, EPOCHS, SIZE = 1000, 300, 224
PER_CLASS = (1, 10, 50, 200)
RANK, HEAD_RANK = 8, 128
PRUNED, TOP = 40, 5


def teacher_bytes() -> int:
    """ResNet-18 in float16, with the statistics of its normalisations."""
    model = models.resnet18(CLASSES).clone(stem=models.pooled_stem)
    return tree_bytes(_shapes(model), jnp.float16)


def adapters() -> dict[str, int]:
    """Parameters of the adapters of both towers, at the paper's ranks."""
    return {
        name: count_parameters(
            projector_shapes(
                _shapes(tower)["params"],
                {targets: RANK},
                dim=tower.embed_dim,
                num_classes=CLASSES,
                head_rank=HEAD_RANK,
            )
        )
        for name, (tower, targets) in _towers().items()
    }


def imagenet_ledger(per_class: Sequence[int] = PER_CLASS) -> list[dict[str, Any]]:
    """The lines of `ledger_table` for every size: what the adapter replaces, and by what.

    Images are left out: all ways store the same ones. The total is what belongs to the labels.

    Args:
        per_class: sizes of the distilled set.

    Returns:
        The lines of all sizes.
    """
    towers = _towers()
    sizes = {name: tree_bytes(_shapes(of), jnp.float16) for name, (of, _) in towers.items()}
    fixed = [
        Entry(f"adapter, {name}", "float16", 2 * count, counted=name == "RN50")
        for name, count in adapters().items()
    ]
    fixed.append(Entry("geometry: a seed", "", 0))
    fixed += [
        Entry(f"public image tower, {name}", "float16", size, counted=False)
        for name, size in sizes.items()
    ]
    fixed.append(Entry("instead: the teacher", "float16", teacher_bytes(), counted=False))
    lines = []
    for count in per_class:
        full = label_bytes(count * CLASSES, EPOCHS, CLASSES)
        table = ledger_table([*fixed, *_labels(count)], against=full)
        lines += [{"per class": count} | line for line in table]
    return lines


def imagenet_curve() -> "Figure":
    """Bytes of labels over images per class, against the adapter of RN50 and the teacher.

    Returns:
        A figure of matplotlib.
    """
    return storage_curve(
        num_classes=CLASSES,
        epochs=EPOCHS,
        adapter=2 * adapters()["RN50"],
        teacher=teacher_bytes(),
        per_class=(),
    )


def _labels(per_class: int) -> list[Entry]:
    """What stored labels would take instead."""
    images = per_class * CLASSES
    full = label_bytes(images, EPOCHS, CLASSES)
    geometry = geometry_bytes(images, EPOCHS)
    top = top_label_bytes(images, EPOCHS, CLASSES, TOP)
    forms = {
        "stored logits": ("float16", full),
        "stored logits and geometry (SRe2L, LPLD)": ("float16", full + geometry),
        f"one in {PRUNED} of them (LPLD)": ("float16", (full + geometry) // PRUNED),
        "logits as bytes": ("uint8", quantized_label_bytes(images, EPOCHS, CLASSES)),
        f"the {TOP} largest of each": ("float16", top),
    }
    return [
        Entry(f"instead: {name}", dtype, size, counted=False)
        for name, (dtype, size) in forms.items()
    ]


def imagenet_claims(per_class: Sequence[int] = PER_CLASS) -> list[dict[str, Any]]:
    """The readings of "0.003% of the labels", in percent, for the adapter of RN50.

    Args:
        per_class: sizes of the distilled set.

    Returns:
        A line per size.
    """
    parameters = adapters()["RN50"]
    lines = []
    for count in per_class:
        labels = label_bytes(count * CLASSES, EPOCHS, CLASSES)
        found = claimed_ratios(parameters, labels)
        sizes = {"per class": count, "stored logits, float16": readable_size(labels)}
        lines.append(sizes | {f"{name}, %": 100 * value for name, value in found.items()})
    return lines


def _towers() -> dict[str, tuple[Any, str]]:
    return {
        "RN50": (models.clip_rn50().image, RN50_TARGETS),
        "ViT-B/32": (models.clip_vit_b32().image, VIT_TARGETS),
    }


@functools.cache
def _shapes(model: Any) -> Any:
    images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def imagenet_report() -> "dict[str, list[dict[str, Any]] | Figure]":
    """What labels for distilled ImageNet-1K would take, as tables and a figure.

    Returns:
        `storage_of_imagenet` of `imagenet_ledger`, `claimed_ratios` of `imagenet_claims`, and
        `storage_curve` of `imagenet_curve`.
    """
    tables = {"storage_of_imagenet": imagenet_ledger(), "claimed_ratios": imagenet_claims()}
    return tables | {"storage_curve": imagenet_curve()}
