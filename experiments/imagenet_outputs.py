"""What `hello_imagenet` yields at its end: tables, files, figures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments import hello_figures as figures
from experiments import imagenet_ledger, label_storage
from experiments.folder_parts import FolderParts, Reading, accuracies
from experiments.folder_students import BY_LABELS, PLAIN, StudentTraining, results_table
from experiments.foundation_models import Foundation
from experiments.imagenet_networks import last_teacher
from experiments.imagenet_stages import State
from experiments.low_rank_projectors import Projector, adapter_file
from experiments.outputs import Artifact
from experiments.stitched_images import StoredImages, first_images
from lnl_jax import distill


def artifacts(
    state: State,
    parts: FolderParts,
    reading: Reading,
    images: Mapping[int, Mapping[str, StoredImages]],
    rows: Sequence[str],
    training: StudentTraining,
    foundation: Foundation,
    sources: Mapping[str, Callable],
) -> Iterator[Artifact]:
    """Tables, files and figures.

    Args:
        state: of the finished run.
        parts: real images.
        reading: how they are read.
        images: `distilled` and `random` ones of each size.
        rows: of the students, in the order of the scores.
        training: of the students.
        foundation: the model under the projector.
        sources: networks that make labels.
    """
    per_class, classes = list(images), len(parts.names)
    teacher, _ = last_teacher(state)
    found = _networks_table(sources, parts, reading, state["adapter"], teacher)
    yield Artifact("networks", found)
    results = results_table(state["scores"], per_class, rows, training)
    yield Artifact("results", results)
    scores = label_storage.robust_scores(
        {(line["row"], line["per class"]): line["test %"] / 100 for line in results},
        teacher=found[-1]["test %"] / 100,
        rows=BY_LABELS,
        plain_rows=PLAIN,
        per_class=per_class,
    )
    if scores:
        yield Artifact("robust_scores", scores)
    adapter = adapter_file(Projector(state["adapter"], foundation.words))
    yield Artifact("adapter.npy", adapter)
    storage = []
    for count in per_class:
        file = images[count]["distilled"].file(parts.train.classes)
        yield Artifact(f"images_{count}.zip", file)
        lines = label_storage.ledger(
            images=count * classes,
            epochs=training.epochs,
            num_classes=classes,
            images_file=len(file),
            adapter_file=len(adapter),
            label_files={},
            tower=foundation.tower,
            words=foundation.words,
            teacher=teacher,
        )
        storage += [{"per class": count} | line for line in lines]
    yield Artifact("storage", storage)
    yield Artifact("storage_of_imagenet", imagenet_ledger.ledger())
    yield Artifact("claimed_ratios", imagenet_ledger.claimed())
    yield Artifact("accuracy", figures.accuracy_figure(results, per_class))
    yield Artifact("storage_curve", imagenet_ledger.curve())
    shown = [
        (f"{name}, {count} per class", first_images(of, classes=10, most=3))
        for count, by_name in images.items()
        for name, of in by_name.items()
    ]
    yield Artifact("distilled", figures.image_figure(shown, num_classes=min(classes, 10)))


def _networks_table(
    sources: Mapping[str, Callable],
    parts: FolderParts,
    reading: Reading,
    adapter: Any,
    teacher: Any,
) -> list[dict[str, Any]]:
    """A line per network, the teacher last: accuracy, and what one has to store."""
    sizes = {
        "zero-shot": 0,
        "projector": distill.projectors.count_parameters(adapter),
        "teacher": distill.projectors.count_parameters(teacher),
    }
    predicts = [sources[name] for name in sizes]
    columns = {
        "test %": accuracies(predicts, parts.test, reading),
        "validation %": accuracies(predicts, parts.validation, reading),
    }
    return [
        {"network": name}
        | {column: 100 * values[index] for column, values in columns.items()}
        | {"parameters": size, "bytes as float16": 2 * size}
        for index, (name, size) in enumerate(sizes.items())
    ]
