"""The functions that a name on the command line stands for, and the settings usually tried."""

from collections.abc import Callable, Sequence
from typing import Any

import optax
from jax import Array
from jax.typing import ArrayLike

from lnl_jax import data, losses, models
from lnl_jax.comparison.image_networks import crop_and_flip, unaugmented
from lnl_jax.runner.arguments import StudyError
from lnl_jax.runner.command_line import Supplied

Loss = Callable[..., Array]
Normalization = Callable[..., Array]


def cross_entropy(logits: Array, labels: Array, *, axis: int = -1) -> Array:
    """Optax's softmax cross-entropy, `[B]`."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels, axis=axis)


def nce_rce(
    logits: Array, labels: Array, *, alpha: ArrayLike, beta: ArrayLike, axis: int = -1
) -> Array:
    """Active-passive: normalised cross-entropy and reverse cross-entropy (log 0 = -4), `[B]`."""
    passive = losses.reverse_cross_entropy(logits, labels, axis=axis)
    active = losses.normalized_cross_entropy(logits, labels, axis=axis)
    return alpha * active + beta * passive


def nce_agce(
    logits: Array, labels: Array, *, alpha: ArrayLike, beta: ArrayLike, axis: int = -1
) -> Array:
    """Active-passive: normalised and asymmetric generalised cross-entropy, `[B]`."""
    passive = losses.asymmetric_generalized_cross_entropy(logits, labels, a=3.0, q=1.5, axis=axis)
    active = losses.normalized_cross_entropy(logits, labels, axis=axis)
    return alpha * active + beta * passive


def nce_aul(
    logits: Array, labels: Array, *, alpha: ArrayLike, beta: ArrayLike, axis: int = -1
) -> Array:
    """Active-passive: normalised cross-entropy and asymmetric unhinged loss, `[B]`."""
    passive = losses.asymmetric_unhinged(logits, labels, a=6.0, q=1.5, axis=axis)
    active = losses.normalized_cross_entropy(logits, labels, axis=axis)
    return alpha * active + beta * passive


def unnormalized(logits: Array, *, axis: int = -1) -> Array:
    """The scores as the network gives them."""
    del axis
    return logits


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "generalized_cross_entropy": losses.generalized_cross_entropy,
    "ldr_kl": losses.ldr_kl,
    "aldr_kl": losses.aldr_kl,
    "asymmetric_exponential": losses.asymmetric_exponential,
    "asymmetric_generalized_cross_entropy": losses.asymmetric_generalized_cross_entropy,
    "asymmetric_unhinged": losses.asymmetric_unhinged,
    "backward_correction": losses.backward_correction,
    "bi_tempered_logistic": losses.bi_tempered_logistic,
    "crammer_singer": losses.crammer_singer,
    "forward_correction": losses.forward_correction,
    "generalized_jensen_shannon": losses.generalized_jensen_shannon,
    "hard_bootstrap": losses.hard_bootstrap,
    "jensen_shannon": losses.jensen_shannon,
    "ldam": losses.ldam,
    "mean_absolute_error": losses.mean_absolute_error,
    "mean_squared_error": losses.mean_squared_error,
    "nce_agce": nce_agce,
    "nce_aul": nce_aul,
    "nce_rce": nce_rce,
    "normalized_cross_entropy": losses.normalized_cross_entropy,
    "normalized_focal": losses.normalized_focal,
    "partially_huberised_cross_entropy": losses.partially_huberised_cross_entropy,
    "reverse_cross_entropy": losses.reverse_cross_entropy,
    "robust_log_loss": losses.robust_log_loss,
    "soft_bootstrap": losses.soft_bootstrap,
    "symmetric_cross_entropy": losses.symmetric_cross_entropy,
    "taylor_cross_entropy": losses.taylor_cross_entropy,
    "truncated_generalized_cross_entropy": losses.truncated_generalized_cross_entropy,
    "weston_watkins": losses.weston_watkins,
}

# Losses with state per training example, ``(logits, labels, rows, ...) -> (losses, rows)``, and the
# rows of a setting before the first visit. Only the studies that keep such rows can take them.
LOSSES_WITH_ROWS: dict[str, Callable] = {"aldr_kl_step": losses.aldr_kl_step}
FIRST_ROWS: dict[str, Callable] = {"aldr_kl_step": lambda setting: setting["temperature"]}

# "default" is left to the study: each loss's own.
NORMALIZATIONS: dict[str, Normalization | None] = {
    "default": None,
    "none": unnormalized,
    "softplus_mean": losses.softplus_mean_normalize,
    "l1_mean": losses.l1_mean_normalize,
}

MODELS: dict[str, Callable] = {
    "resnet8": models.resnet8,
    "resnet18": models.resnet18,
    "resnet20": models.resnet20,
    "resnet34": models.resnet34,
    "wide_resnet28": models.wide_resnet28,
    "convnet": models.convnet,
    "vit": models.vit,
}

AUGMENTATIONS: dict[str, Callable] = {"crop_and_flip": crop_and_flip, "none": unaugmented}
# What is not given depends on the data set.
AUGMENTATIONS_OR_DEFAULT: dict[str, Callable | None] = {"default": None} | AUGMENTATIONS


def shapes32(
    data_dir: str | None = None,
    *,
    num_classes: int = 10,
    num_train: int = 2_000,
    num_test: int = 1_000,
    seed: int = 0,
) -> data.Splits:
    """Generated images of coloured shapes; nothing is read or downloaded."""
    del data_dir
    return data.shapes32(num_classes=num_classes, num_train=num_train, num_test=num_test, seed=seed)


def npz(data_dir: str | None, *, name: str = "data", num_classes: int | None = None) -> data.Splits:
    """Any images: NAME.npz in --data_dir."""
    if data_dir is None:
        raise StudyError(f"dataset npz reads {name}.npz from a folder: give --data_dir DIR.")
    return data.load_npz(data_dir, name, num_classes=num_classes)


IMAGE_SETS: dict[str, Callable] = {
    "cifar10": data.cifar10,
    "cifar100": data.cifar100,
    "fashion_mnist": data.fashion_mnist,
    "mnist": data.mnist,
    "npz": npz,
    "shapes32": shapes32,
}


def is_generated(choice: Any) -> bool:
    """Whether this is a data set that nobody measured: a run on one says so."""
    return getattr(choice, "func", choice) is shapes32


# What the logits go through where nothing else is asked for, as in the official code.
OWN_NORMALIZATIONS: dict[str, Normalization] = {
    "ldr_kl": losses.softplus_mean_normalize,
    "aldr_kl": losses.l1_mean_normalize,
    "aldr_kl_step": losses.l1_mean_normalize,
}


def tied(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """One setting of each position: the values of several hyperparameters belong together."""
    return [dict(zip(values, chosen, strict=True)) for chosen in zip(*values.values(), strict=True)]


_ACTIVE_PASSIVE = tied(alpha=(0.1, 5.0, 9.9), beta=(9.9, 5.0, 0.1))

# The hyperparameters among which validation chooses, up to three settings of each loss. Those of
# the LDR paper's comparison are its grids; for the others, values from the papers of the losses.
# LDAM is given plain scores, not those of a cosine classifier, hence smaller scales too.
HYPERPARAMETERS: dict[str, list[dict[str, Any]]] = {
    "generalized_cross_entropy": tied(q=(0.05, 0.7, 0.95)),
    "ldr_kl": tied(temperature=(0.1, 1.0, 10.0)),
    "aldr_kl": tied(temperature=(0.1, 1.0, 10.0)),
    "aldr_kl_step": tied(temperature=(0.1, 1.0, 10.0)),
    "asymmetric_exponential": tied(a=(1.0, 2.5, 3.5)),
    "asymmetric_generalized_cross_entropy": tied(a=(4.0, 0.6, 3.0), q=(0.2, 0.6, 1.5)),
    "asymmetric_unhinged": tied(a=(3.0, 5.5, 6.0), q=(0.1, 3.0, 1.5)),
    "bi_tempered_logistic": tied(t1=(0.8, 0.5, 0.2), t2=(1.2, 2.0, 4.0)),
    "crammer_singer": tied(margin=(0.1, 1.0, 10.0)),
    "generalized_jensen_shannon": tied(
        weights=((0.1, 0.45, 0.45), (0.3, 0.35, 0.35), (0.5, 0.25, 0.25))
    ),
    "hard_bootstrap": tied(weight=(0.5, 0.8, 0.95)),
    "jensen_shannon": tied(weight=(0.1, 0.5, 0.9)),
    "ldam": tied(scale=(1.0, 10.0, 30.0)),
    "nce_agce": _ACTIVE_PASSIVE,
    "nce_aul": _ACTIVE_PASSIVE,
    "nce_rce": _ACTIVE_PASSIVE,
    "normalized_focal": tied(gamma=(0.1, 0.5, 2.0)),
    "partially_huberised_cross_entropy": tied(temperature=(2.0, 10.0, 30.0)),
    "robust_log_loss": tied(alpha=(0.1, 1.0, 10.0)),
    "soft_bootstrap": tied(weight=(0.5, 0.8, 0.95)),
    "symmetric_cross_entropy": tied(alpha=(0.95, 0.5, 0.05), beta=(0.05, 0.5, 0.95)),
    "truncated_generalized_cross_entropy": tied(q=(0.05, 0.7, 0.95)),
    "weston_watkins": tied(margin=(0.1, 1.0, 10.0)),
}

# What is set and not searched.
FIXED: dict[str, dict[str, Any]] = {
    "ldr_kl": {"margin": 0.1},
    "aldr_kl": {"margin": 0.1},
    "aldr_kl_step": {"margin": 0.1},
    "taylor_cross_entropy": {"order": 2},
    "truncated_generalized_cross_entropy": {"threshold": 0.5},
}

# Other values for the first half of the training. From 0.5 on, nothing would ever be learned: no
# label has that probability at the start.
EARLY: dict[str, dict[str, float]] = {"truncated_generalized_cross_entropy": {"threshold": 1e-6}}

# Losses of several views of an example, and how many they are given.
VIEWS: dict[str, int] = {"generalized_jensen_shannon": 2}

# What a loss may ask for that follows from the data set: the noise and the counts of the labels.
KNOWN = ("matrix", "class_counts")

# What `--loss.KEYWORD` cannot set, or sets in place of the study. Weights are one per view.
SUPPLIED = Supplied(
    always=(*KNOWN, "weights"),
    unless_given={
        name: {*HYPERPARAMETERS.get(name, [{}])[0], *FIXED.get(name, {})} for name in LOSSES
    },
)
