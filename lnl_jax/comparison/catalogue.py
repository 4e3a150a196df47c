"""The functions that a name on the command line stands for, and the settings usually tried."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import optax
from jax import Array
from jax.typing import ArrayLike

from lnl_jax import data, losses, models
from lnl_jax.comparison.image_networks import crop_and_flip, unaugmented
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.runner.signatures import Supplied

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


def tied(**values: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """One setting of each position: the values of several hyperparameters belong together."""
    return tuple(
        dict(zip(values, chosen, strict=True)) for chosen in zip(*values.values(), strict=True)
    )


class LossEntry(NamedTuple):
    """A loss as a comparison trains it.

    Attributes:
        function: ``(logits, labels, ...) -> losses``, or with `initial_rows` ``(logits, labels,
            rows, ...) -> (losses, rows)``.
        grid: the hyperparameters among which validation chooses, dicts with the same keys.
        fixed: those that are set and not searched.
        normalize: what the logits go through where nothing else is asked for.
        warmup: other values of the fixed ones for the first half of the training.
        views: how many views of an example the loss is given; None for losses of the example.
        initial_rows: for a loss with state per training example: ``setting -> row`` before the
            first visit.
    """

    function: Loss
    grid: Sequence[Mapping[str, Any]] = ({},)
    fixed: Mapping[str, Any] = types.MappingProxyType({})
    normalize: Normalization = unnormalized
    warmup: Mapping[str, float] = types.MappingProxyType({})
    views: int | None = None
    initial_rows: Callable[[Mapping[str, Any]], Any] | None = None


# Up to three settings of each loss. Those of the LDR paper's comparison are its grids; for the
# others, values from the papers of the losses. Normalisations are those of the official code.
_TEMPERATURES = tied(temperature=(0.1, 1.0, 10.0))
_ACTIVE_PASSIVE = tied(alpha=(0.1, 5.0, 9.9), beta=(9.9, 5.0, 0.1))
_Q = tied(q=(0.05, 0.7, 0.95))
_MARGIN = tied(margin=(0.1, 1.0, 10.0))
_BOOTSTRAP = tied(weight=(0.5, 0.8, 0.95))

CATALOGUE: dict[str, LossEntry] = {
    "cross_entropy": LossEntry(cross_entropy),
    "generalized_cross_entropy": LossEntry(losses.generalized_cross_entropy, _Q),
    "ldr_kl": LossEntry(
        losses.ldr_kl, _TEMPERATURES, {"margin": 0.1}, losses.softplus_mean_normalize
    ),
    "aldr_kl": LossEntry(losses.aldr_kl, _TEMPERATURES, {"margin": 0.1}, losses.l1_mean_normalize),
    "asymmetric_exponential": LossEntry(losses.asymmetric_exponential, tied(a=(1.0, 2.5, 3.5))),
    "asymmetric_generalized_cross_entropy": LossEntry(
        losses.asymmetric_generalized_cross_entropy, tied(a=(4.0, 0.6, 3.0), q=(0.2, 0.6, 1.5))
    ),
    "asymmetric_unhinged": LossEntry(
        losses.asymmetric_unhinged, tied(a=(3.0, 5.5, 6.0), q=(0.1, 3.0, 1.5))
    ),
    "backward_correction": LossEntry(losses.backward_correction),
    "bi_tempered_logistic": LossEntry(
        losses.bi_tempered_logistic, tied(t1=(0.8, 0.5, 0.2), t2=(1.2, 2.0, 4.0))
    ),
    "crammer_singer": LossEntry(losses.crammer_singer, _MARGIN),
    "forward_correction": LossEntry(losses.forward_correction),
    "generalized_jensen_shannon": LossEntry(
        losses.generalized_jensen_shannon,
        tied(weights=((0.1, 0.45, 0.45), (0.3, 0.35, 0.35), (0.5, 0.25, 0.25))),
        views=2,
    ),
    "hard_bootstrap": LossEntry(losses.hard_bootstrap, _BOOTSTRAP),
    "jensen_shannon": LossEntry(losses.jensen_shannon, tied(weight=(0.1, 0.5, 0.9))),
    # Plain scores, not those of a cosine classifier, hence smaller scales too.
    "ldam": LossEntry(losses.ldam, tied(scale=(1.0, 10.0, 30.0))),
    "mean_absolute_error": LossEntry(losses.mean_absolute_error),
    "mean_squared_error": LossEntry(losses.mean_squared_error),
    "nce_agce": LossEntry(nce_agce, _ACTIVE_PASSIVE),
    "nce_aul": LossEntry(nce_aul, _ACTIVE_PASSIVE),
    "nce_rce": LossEntry(nce_rce, _ACTIVE_PASSIVE),
    "normalized_cross_entropy": LossEntry(losses.normalized_cross_entropy),
    "normalized_focal": LossEntry(losses.normalized_focal, tied(gamma=(0.1, 0.5, 2.0))),
    "partially_huberised_cross_entropy": LossEntry(
        losses.partially_huberised_cross_entropy, tied(temperature=(2.0, 10.0, 30.0))
    ),
    "reverse_cross_entropy": LossEntry(losses.reverse_cross_entropy),
    "robust_log_loss": LossEntry(losses.robust_log_loss, tied(alpha=(0.1, 1.0, 10.0))),
    "soft_bootstrap": LossEntry(losses.soft_bootstrap, _BOOTSTRAP),
    "symmetric_cross_entropy": LossEntry(
        losses.symmetric_cross_entropy, tied(alpha=(0.95, 0.5, 0.05), beta=(0.05, 0.5, 0.95))
    ),
    "taylor_cross_entropy": LossEntry(losses.taylor_cross_entropy, fixed={"order": 2}),
    # From 0.5 on, nothing would ever be learned: no label has that probability at the start.
    "truncated_generalized_cross_entropy": LossEntry(
        losses.truncated_generalized_cross_entropy,
        _Q,
        {"threshold": 0.5},
        warmup={"threshold": 1e-6},
    ),
    "weston_watkins": LossEntry(losses.weston_watkins, _MARGIN),
    "aldr_kl_step": LossEntry(
        losses.aldr_kl_step,
        _TEMPERATURES,
        {"margin": 0.1},
        losses.l1_mean_normalize,
        initial_rows=lambda setting: setting["temperature"],
    ),
}

# Those of the LDR paper's comparison, with 39 settings.
PAPER_LOSSES = (
    "cross_entropy",
    "crammer_singer",
    "weston_watkins",
    "robust_log_loss",
    "generalized_cross_entropy",
    "truncated_generalized_cross_entropy",
    "symmetric_cross_entropy",
    "mean_squared_error",
    "mean_absolute_error",
    "nce_rce",
    "nce_agce",
    "nce_aul",
    "jensen_shannon",
    "ldr_kl",
    "aldr_kl_step",
)

# What `--loss NAME` chooses from: losses without state per training example, which only the
# studies that keep tables of it can take.
LOSSES: dict[str, Loss] = {
    name: entry.function for name, entry in CATALOGUE.items() if entry.initial_rows is None
}

# What a loss may ask for that follows from the data set: the noise and the counts of the labels.
KNOWN = ("matrix", "class_counts")

# What `--loss.KEYWORD` cannot set, or sets in place of the study. Weights are one per view.
SUPPLIED = Supplied(
    always=(*KNOWN, "weights"),
    unless_given={name: {*CATALOGUE[name].grid[0], *CATALOGUE[name].fixed} for name in LOSSES},
)

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


IMAGE_SETS: dict[str, Callable] = {
    "cifar10": data.cifar10,
    "cifar100": data.cifar100,
    "fashion_mnist": data.fashion_mnist,
    "mnist": data.mnist,
    "shapes32": shapes32,
} | OWN_SETS


def is_generated(choice: Any) -> bool:
    """Whether this is a data set that nobody measured: a run on one says so."""
    return getattr(choice, "func", choice) is shapes32
