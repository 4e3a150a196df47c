"""What a comparison of students leaves behind: tables, files and figures by name."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from lnl_jax.distill.labels._figures import accuracy_figure
from lnl_jax.distill.ledger._figures import storage_curve
from lnl_jax.distill.ledger._runs import robust_score_table, run_ledger
from lnl_jax.distill.ledger._storage import tree_bytes
from lnl_jax.distill.projectors._foundation import Foundation
from lnl_jax.distill.projectors._lora import count_parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PyTree = Any


def networks_table(
    column: str, right: Mapping[str, Sequence[float]], stored: Mapping[str, PyTree]
) -> list[dict[str, Any]]:
    """A line per network that makes labels: its accuracy, and what one has to store.

    Args:
        column: the heading of the names.
        right: percent on validation and test, by name.
        stored: the parameters to be stored, by name; an empty tree for none.

    Returns:
        The lines.
    """
    lines = []
    for name, (validation, test) in right.items():
        line = {column: name, "test %": float(test), "validation %": float(validation)}
        size = count_parameters(stored[name])
        lines.append(line | {"parameters": size, "bytes as float16": 2 * size})
    return lines


def students_report(
    results: Sequence[Mapping[str, Any]],
    *,
    num_classes: int,
    epochs: int,
    image_files: Mapping[int, bytes],
    adapter_file: bytes,
    foundation: Foundation,
    teacher: PyTree,
    teacher_percent: float,
    scored: tuple[str, str, str],
    plain: tuple[str, str] = ("", ""),
    label_names: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, "bytes | list[dict[str, Any]] | Figure"]:
    """The ledger of every size of the set, the scores of the students, and both as figures.

    Args:
        results: lines with `row`, `per class`, `test %`, `std` and, where there is a file,
            ``labels' file, bytes``.
        num_classes: K.
        epochs: of a student's training.
        image_files: the distilled images of each size.
        adapter_file: of the projector.
        foundation: whose tower and words are public.
        teacher: parameters.
        teacher_percent: its accuracy on the test images.
        scored: rows of `robust_score_table`.
        plain: likewise, without augmentation.
        label_names: what to call the stored labels of a row.

    Returns:
        The file `adapter.npy`; the tables `storage` and, where their rows were run,
        `robust_scores`; the figures `accuracy` and `storage_curve`.
    """
    sizes, storage = list(image_files), []
    for count, file in image_files.items():
        lines = run_ledger(
            images=count * num_classes,
            epochs=epochs,
            num_classes=num_classes,
            images_file=len(file),
            adapter_file=len(adapter_file),
            label_files={
                label_names[line["row"]]: line["labels' file, bytes"]
                for line in results
                if line["per class"] == count and line.get("labels' file, bytes")
            },
            tower=foundation.tower,
            words=foundation.words,
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
    tables = {"storage": storage} | ({"robust_scores": scores} if scores else {})
    return {"adapter.npy": adapter_file} | tables | figures
