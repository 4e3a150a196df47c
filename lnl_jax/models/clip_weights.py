"""CLIP weights from files: nothing is downloaded, no pickle is read, no parameter is left over."""

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax.models import _clip_configs as configs
from lnl_jax.models import _clip_names as names
from lnl_jax.models._checkpoints import (
    account,
    converted,
    is_pickle,
    listed,
    read_json,
    read_tensors,
)
from lnl_jax.models._transformer import Activation
from lnl_jax.models.clip import CLIP

# What a folder may hold: weights, and the configuration that goes with them.
IN_A_FOLDER = (
    ("open_clip_model.safetensors", "open_clip_config.json"),
    ("model.safetensors", "config.json"),
    ("model.safetensors.index.json", "config.json"),
)
# What torch.nn.DataParallel, torch.compile and training frameworks put before every name.
WRAPPERS = ("module.", "_orig_mod.", "model.")

TO_FETCH = (
    "Nothing is downloaded. Fetch into a folder, and give its path, either model.safetensors, "
    "config.json and tokenizer.json of the Hugging Face repository openai/clip-vit-base-patch32, "
    "or open_clip_model.safetensors and open_clip_config.json of timm/resnet50_clip.openai with "
    "the tokenizer.json of the former (both tokenize alike). Without any, the experiment "
    "hello_digits trains a small model of its own on embedded data, and hello_cifar on CIFAR."
)
TO_CONVERT = (
    "its pickle is not read, because that may run any code. Convert it once, where PyTorch is "
    "installed: import torch, safetensors.torch; w = torch.jit.load(PATH, map_location='cpu')"
    ".state_dict() (an archive of OpenAI; otherwise w = torch.load(PATH, weights_only=True)); "
    "safetensors.torch.save_file({k: v.contiguous() for k, v in w.items()}, 'model.safetensors')"
)


class LoadedCLIP(NamedTuple):
    """A model, and what was loaded for it.

    Attributes:
        model: a `CLIP` with towers of the sizes of the checkpoint.
        variables: `params`, and `batch_stats` of a residual tower: the argument of ``model.apply``.
    """

    model: CLIP
    variables: dict[str, Any]


def load_clip(
    path: str | os.PathLike[str] | None, *, activation: Activation | None = None
) -> LoadedCLIP:
    """Loads CLIP from `safetensors` files of the layout of Hugging Face, open_clip or OpenAI.

    The sizes are those of the shapes in the file; `config.json` or `open_clip_config.json` beside
    it tells the heads, the activation and the end of a text. Without the latter, as with converted
    weights of OpenAI, heads are 64 wide, and `activation` is to be given. Parameters become
    float32. Constants such as `position_ids` are skipped; everything else in the file has to be a
    parameter of the model, and every parameter of the model in the file. Where all names begin with
    ``module.``, ``_orig_mod.`` or ``model.``, as wrappers of PyTorch leave them, this is stripped,
    with a warning that says so.

    Args:
        path: a `.safetensors` file, or a folder with ``open_clip_model.safetensors``,
            ``model.safetensors``, or ``model.safetensors.index.json`` and its parts.
        activation: `quick_gelu` or `gelu`, for weights of open_clip or OpenAI, instead of what the
            configuration says. Hugging Face's configuration always says it.

    Returns:
        The model and its variables.

    Raises:
        FileNotFoundError: if there is no such file, or no weights in the folder.
        ValueError: if the file is incomplete, a pickle, or of another architecture, where names
            that are missing or left over are listed; or if the end of a text is not told, or is
            outside the vocabulary.

    Example:
        >>> load_clip("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: no CLIP weights at no/such/folder. Nothing is downloaded. Fetch into ...
    """
    weights, config = _located(path)
    tensors = _unwrapped(read_tensors(weights), weights)
    if config is not None:
        config = read_json(config)
    try:
        return _loaded(tensors, config, activation)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None


def _unwrapped(tensors: dict[str, np.ndarray], weights: Path) -> dict[str, np.ndarray]:
    stripped = ""
    while tensors:
        prefix = next((one for one in WRAPPERS if all(n.startswith(one) for n in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        stripped += prefix
    if stripped:
        warnings.warn(f"{weights}: all names begin with {stripped!r}, stripped.", stacklevel=3)
    return tensors


def _loaded(
    tensors: dict[str, np.ndarray], config: dict | None, activation: Activation | None
) -> LoadedCLIP:
    shapes = {name: value.shape for name, value in tensors.items() if names.is_parameter(name)}
    if any(name.startswith(("vision_model.", "text_model.")) for name in shapes):
        if activation is not None:
            raise ValueError("activation must be None here: config.json says what it is.")
        model = configs.hugging_face_model(shapes, config)
        entries = list(names.hugging_face(model))
    elif any(name.startswith("visual.") for name in shapes):
        model = configs.open_clip_model(shapes, config, activation)
        entries = list(names.open_clip(model))
    else:
        raise ValueError(
            "this is a checkpoint of another architecture: CLIP's have names that begin with "
            f"'vision_model.' and 'text_model.', or with 'visual.'; this one has {listed(shapes)}."
        )
    account(shapes, {name for name, *_ in entries})
    image = jnp.zeros((1, model.image.image_size, model.image.image_size, 3))
    ids = jnp.zeros((1, 1), jnp.int32)
    wanted = jax.eval_shape(model.init, jax.random.key(0), image, ids)
    return LoadedCLIP(model, converted(wanted, tensors, entries))


def _located(path: str | os.PathLike[str] | None) -> tuple[Path, Path | None]:
    """The file of the weights, and that of the configuration where there is one."""
    if path is None or not Path(path).exists():
        where = "no path of CLIP weights given" if path is None else f"no CLIP weights at {path}"
        raise FileNotFoundError(f"{where}. {TO_FETCH}")
    path = Path(path)
    if path.is_file():
        pairs = [(path, path.with_name(config)) for _, config in IN_A_FOLDER[:2]]
        # The other one may be of other weights in the same folder.
        if not path.name.startswith("open_clip"):
            pairs.reverse()
    else:
        pairs = [(path / weights, path / config) for weights, config in IN_A_FOLDER]
        pairs = [pair for pair in pairs if pair[0].exists()]
        pickles = [file for file in sorted(path.iterdir()) if is_pickle(file)]
        if not pairs and pickles:
            raise ValueError(f"{pickles[0]} is a file of PyTorch; {TO_CONVERT}.")
        if not pairs:
            raise FileNotFoundError(f"no CLIP weights in the folder {path}. {TO_FETCH}")
    if is_pickle(path):
        raise ValueError(f"{path} is a file of PyTorch; {TO_CONVERT}.")
    complete = [pair for pair in pairs if pair[1].exists()]
    return complete[0] if complete else (pairs[0][0], None)
