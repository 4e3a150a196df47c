"""What the parameters of EfficientNet-Lite are called in the published file."""

from collections.abc import Iterator

import numpy as np

from lnl_jax.models._checkpoints import Entry
from lnl_jax.models.efficientnet import EfficientNetLite, Stage

# Counters of batches.
NO_PARAMETER = "num_batches_tracked"


def published(model: EfficientNetLite) -> Iterator[Entry]:
    """Every parameter and statistic of the model."""
    yield "_conv_stem.weight", ("params", "first", "kernel"), _channels_last
    yield from _norm("_bn0", ("first_norm",))
    expansions = [
        Stage(*stage).expansion for stage in model.stages for _ in range(Stage(*stage).repeats)
    ]
    for index, expansion in enumerate(expansions):
        theirs, ours = f"_blocks.{index}", f"blocks_{index}"
        if expansion != 1:
            yield f"{theirs}._expand_conv.weight", ("params", ours, "expand", "kernel"), _matrix
            yield from _norm(f"{theirs}._bn0", (ours, "expand_norm"))
        yield f"{theirs}._depthwise_conv.weight", ("params", ours, "depthwise"), _by_channel
        yield from _norm(f"{theirs}._bn1", (ours, "depthwise_norm"))
        yield f"{theirs}._project_conv.weight", ("params", ours, "project", "kernel"), _matrix
        yield from _norm(f"{theirs}._bn2", (ours, "project_norm"))
    yield "_conv_head.weight", ("params", "last", "kernel"), _matrix
    yield from _norm("_bn1", ("last_norm",))
    yield "_fc.weight", ("params", "scores", "kernel"), lambda values: values.T
    yield "_fc.bias", ("params", "scores", "bias"), lambda values: values


def _norm(name: str, path: tuple[str, ...]) -> Iterator[Entry]:
    places = {
        "weight": ("params", "scale"),
        "bias": ("params", "bias"),
        "running_mean": ("batch_stats", "mean"),
        "running_var": ("batch_stats", "var"),
    }
    for theirs, (collection, ours) in places.items():
        yield f"{name}.{theirs}", (collection, *path, ours), lambda values: values


def _channels_last(values: np.ndarray) -> np.ndarray:
    return values.transpose(2, 3, 1, 0)


def _matrix(values: np.ndarray) -> np.ndarray:
    """``[out, in, 1, 1]`` to ``[in, out]``."""
    return values.reshape(values.shape[:2]).T


def _by_channel(values: np.ndarray) -> np.ndarray:
    """``[channels, 1, rows, columns]`` to ``[rows, columns, channels]``."""
    return values[:, 0].transpose(1, 2, 0)
