"""Rows of the table of soft-label students: which labels, which images, and what came out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import label_storage
from experiments.augmented_views import Views, draw_views, in_order
from experiments.distilled_images import (
    ImageSet,
    best_crops,
    random_controls,
    stored_images,
    updated,
)
from experiments.hello_stages import teacher_model, teachers_of
from experiments.low_rank_projectors import MAIN, merged_tower
from experiments.soft_label_students import (
    Objective,
    student_accuracies,
    with_classes,
    with_live_labels,
    with_stored_labels,
)
from lnl_jax import distill

BATCH = 50


class Labels(NamedTuple):
    """What a row's students follow.

    Attributes:
        source: a network: teacher, weak, projector or zero-shot; None for the classes.
        form: in which the labels are stored, of `label_storage.FORMS`; None for live ones.
        objective: kl, mse or hard.
        images: distilled, random or updated.
    """

    source: str | None
    form: str | None
    objective: str
    images: str = "distilled"


# name on the command line and in tables -> labels; mse is with a little cross-entropy.
ROWS = {
    "hard": Labels(None, None, "hard"),
    "hard_random": Labels(None, None, "hard", "random"),
    "stored_kl": Labels("teacher", "float16", "kl"),
    "projector_kl": Labels("projector", None, "kl"),
    "zero_shot_kl": Labels("zero-shot", None, "kl"),
    "stored_mse": Labels("teacher", "float16", "mse"),
    "projector_mse": Labels("projector", None, "mse"),
    "projector_kl_random": Labels("projector", None, "kl", "random"),
    "pruned_kl": Labels("teacher", "pruned", "kl"),
    "bytes_kl": Labels("teacher", "bytes", "kl"),
    "top3_kl": Labels("teacher", "top3", "kl"),
    "weak_mse": Labels("weak", None, "mse"),
    "projector_mse_updated": Labels("projector", None, "mse", "updated"),
}
DEFAULT_ROWS = tuple(ROWS)[:8]
# Classes, soft labels, and soft labels of random images: what the label-robust score compares.
SCORED = ("hard", "projector_kl", "projector_kl_random")


class Trained(NamedTuple):
    """What became of a row.

    Attributes:
        accuracies: in percent, ``[learning rates, students, parts]``.
        form: of the stored labels; None where there are none.
        file: theirs.
    """

    accuracies: np.ndarray
    form: str | None
    file: bytes | None


def image_sets(
    state: Mapping[str, Any], part: Mapping, per_class: int, rows: Sequence[str], seed: int
) -> dict[str, ImageSet]:
    """The distilled images, the random ones, and the updated ones where a row asks for them."""
    teacher = teachers_of(state)[-1]
    model = teacher_model(state["foundation"].words.shape[-1])
    crops, classes = best_crops(
        part,
        lambda images: model.apply({"params": teacher}, images),
        per_class=per_class,
        seed=seed,
    )
    sets = {
        "distilled": stored_images(crops, classes),
        "random": random_controls(part, per_class=per_class, seed=seed),
    }
    if any(ROWS[row].images == "updated" for row in rows):
        foundation = state["foundation"]
        tower = merged_tower(foundation, state["projectors"][MAIN])
        changed = updated(crops, lambda images: foundation.encode(tower, images))
        sets["updated"] = stored_images(changed, classes)
    return sets


def train_row(
    row: str,
    sets: Mapping[str, ImageSet],
    *,
    parts: Sequence[Mapping[str, np.ndarray]],
    sources: Mapping[str, Callable[[Any], jax.Array]],
    objectives: Mapping[str, Objective],
    model: Any,
    epochs: int,
    seed: int,
    students: int,
    learning_rates: Sequence[float],
    flip_rate: float,
) -> Trained:
    """Students of one row and size; all rows share the stream of crops and CutMix."""
    labels = ROWS[row]
    images = sets[labels.images]
    count = len(images.classes)
    batch = min(BATCH, count)
    views = draw_views(
        images.images,
        images.classes,
        seed=seed,
        steps=epochs * (count // batch),
        batch_size=batch,
        num_classes=model.num_classes,
        flip_rate=flip_rate,
    )
    batches, file = _labelled(labels, images, views, sources, seed)
    accuracies = student_accuracies(
        model,
        batches,
        views,
        objectives[labels.objective],
        parts,
        students=students,
        learning_rates=learning_rates,
    )
    return Trained(accuracies, labels.form, file)


def _labelled(
    labels: Labels,
    images: ImageSet,
    views: Views,
    sources: Mapping[str, Callable[[Any], jax.Array]],
    seed: int,
) -> tuple[Iterable[Mapping[str, Any]], bytes | None]:
    """What the students see and follow, step by step, and the file of stored labels."""
    if labels.source is None:
        return with_classes(views), None
    source = sources[labels.source]
    if labels.form is None:
        return with_live_labels(views, source), None
    if labels.form != "pruned":
        stored = label_storage.store(
            label_storage.live(source, views), labels.form, images, views, seed
        )
        return with_stored_labels(views, stored.logits), stored.file
    steps = len(views.images)
    pool = distill.labels.pool_steps(steps, label_storage.PRUNED)
    kept = label_storage.live(source, in_order(views, np.arange(pool)))
    stored = label_storage.store(kept, labels.form, images, views, seed)
    taken = jax.jit(jax.vmap(lambda step: distill.labels.pooled_step(seed, step, pool)))(
        jnp.arange(steps)
    )
    order = np.asarray(taken)
    return with_stored_labels(in_order(views, order), stored.logits[order]), stored.file


def results_table(
    state: Mapping[str, Any],
    per_class: Sequence[int],
    rows: Sequence[str],
    learning_rates: Sequence[float],
) -> list[dict[str, Any]]:
    """A line per row and size: test accuracy at the learning rate that validation prefers."""
    lines = []
    for i, count in enumerate(per_class):
        for j, row in enumerate(rows):
            scores, size = state["scores"][i, j].astype(np.float64), int(state["sizes"][i, j])
            best = int(scores[..., 0].mean(1).argmax())
            tests = scores[best, :, 1]
            lines.append(
                {
                    "row": row,
                    "per class": count,
                    "test %": float(tests.mean()),
                    "std": float(tests.std(ddof=1)) if len(tests) > 1 else None,
                    "labels' file, bytes": size or None,
                    "learning rate": learning_rates[best],
                }
            )
    return lines
