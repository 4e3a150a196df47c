"""What a comparison of students leaves behind: tables, files and figures by name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from lnl_jax.distill.labels._figures import accuracy_figure
from lnl_jax.distill.ledger._figures import storage_curve
from lnl_jax.distill.ledger._runs import robust_score_table, run_ledger
from lnl_jax.distill.ledger._storage import tree_bytes
from lnl_jax.distill.projectors._lora import count_parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PyTree = Any


def networks_table(
    column: str,
    test: Mapping[str, float],
    validation: Mapping[str, float],
    stored: Mapping[str, PyTree],
) -> list[dict[str, Any]]:
    """A line per network that makes labels: its accuracy, and what one has to store.

    Args:
        column: the heading of the names.
        test: percent, by name.
        validation: likewise.
        stored: the parameters to be stored, by name; an empty tree for none.

    Returns:
        The lines.
    """
    sizes = {name: count_parameters(tree) for name, tree in stored.items()}
    return [
        {
            column: name,
            "test %": test[name],
            "validation %": validation[name],
            "parameters": sizes[name],
            "bytes as float16": 2 * sizes[name],
        }
        for name in test
    ]


def students_report(
    results: Sequence[Mapping[str, Any]],
    *,
    num_classes: int,
    epochs: int,
    image_files: Mapping[int, bytes],
    adapter_file: bytes,
    label_files: Mapping[int, Mapping[str, int]],
    tower: PyTree,
    words: PyTree,
    teacher: PyTree,
    teacher_percent: float,
    scored: tuple[str, str, str],
    plain: tuple[str, str] = ("", ""),
) -> dict[str, "list[dict[str, Any]] | Figure"]:
    """The ledger of every size of the set, the scores of the students, and both as figures.

    Args:
        results: lines with `row`, `per class`, `test %` and `std`.
        num_classes: K.
        epochs: of a student's training.
        image_files: the distilled images of each size.
        adapter_file: of the projector.
        label_files: bytes of the files of stored labels, of each size, by their form.
        tower: the public one.
        words: what the head starts from.
        teacher: parameters.
        teacher_percent: its accuracy on the test images.
        scored: rows of `robust_score_table`.
        plain: likewise, without augmentation.

    Returns:
        The tables `storage` and, where their rows were run, `robust_scores`; the figures `accuracy`
        and `storage_curve`.
    """
    sizes, storage = list(image_files), []
    for count, file in image_files.items():
        lines = run_ledger(
            images=count * num_classes,
            epochs=epochs,
            num_classes=num_classes,
            images_file=len(file),
            adapter_file=len(adapter_file),
            label_files=label_files.get(count, {}),
            tower=tower,
            words=words,
            teacher=teacher,
        )
        storage += [{"per class": count} | line for line in lines]
    scores = robust_score_table(
        {(line["row"], line["per class"]): line["test %"] / 100 for line in results},
        teacher=teacher_percent / 100,
        rows=scored,
        plain_rows=plain,
        per_class=sizes,
    )
    curve = storage_curve(
        num_classes=num_classes,
        epochs=epochs,
        adapter=len(adapter_file),
        teacher=tree_bytes(teacher, jnp.float16),
        per_class=sizes,
    )
    figures = {"accuracy": accuracy_figure(results, sizes), "storage_curve": curve}
    return {"storage": storage} | ({"robust_scores": scores} if scores else {}) | figures
