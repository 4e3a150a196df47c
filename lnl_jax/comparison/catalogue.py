"""The functions that a name on the command line stands for, and the settings usually tried."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
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


def nce_nnce(
    logits: Array, labels: Array, *, alpha: ArrayLike, beta: ArrayLike, axis: int = -1
) -> Array:
    """Active negative: normalised and normalised negative cross-entropy (ANL-CE), `[B]`."""
    passive = losses.normalized_negative_cross_entropy(logits, labels, axis=axis)
    active = losses.normalized_cross_entropy(logits, labels, axis=axis)
    return alpha * active + beta * passive


def nfl_nnfl(
    logits: Array, labels: Array, *, alpha: ArrayLike, beta: ArrayLike, axis: int = -1
) -> Array:
    """Active negative: normalised and normalised negative focal loss (ANL-FL), `[B]`."""
    passive = losses.normalized_negative_focal(logits, labels, gamma=0.5, axis=axis)
    active = losses.normalized_focal(logits, labels, gamma=0.5, axis=axis)
    return alpha * active + beta * passive


def epsilon_softmax_mae(
    logits: Array,
    labels: Array,
    *,
    alpha: ArrayLike,
    beta: ArrayLike,
    mass: ArrayLike,
    axis: int = -1,
) -> Array:
    """Cross-entropy of the epsilon-softmax and, as in its paper, mean absolute error, `[B]`."""
    active = losses.epsilon_softmax_cross_entropy(logits, labels, mass=mass, axis=axis)
    return alpha * active + beta * losses.mean_absolute_error(logits, labels, axis=axis)


def log_confidence(logits: Array, labels: Array, *, weight: ArrayLike, axis: int = -1) -> Array:
    """The auxiliary confidence loss with the thresholds of its batch, `[B]`."""
    thresholds = losses.confidence_thresholds(logits, labels, axis=axis)
    return losses.log_confidence(logits, labels, weight=weight, thresholds=thresholds, axis=axis)


def logit_clip(logits: Array, labels: Array, *, threshold: ArrayLike, axis: int = -1) -> Array:
    """Cross-entropy of clipped logits, `[B]`."""
    clipped = losses.logit_clip(logits, threshold=threshold, axis=axis)
    return cross_entropy(clipped, labels, axis=axis)


def ldr_k2(
    logits: Array, labels: Array, *, temperature: ArrayLike, margin: ArrayLike, axis: int = -1
) -> Array:
    """LDR-k for k = 2, `[B]`."""
    return losses.ldr_kl(logits, labels, temperature=temperature, margin=margin, top_k=2, axis=axis)


def ldr_k5(
    logits: Array, labels: Array, *, temperature: ArrayLike, margin: ArrayLike, axis: int = -1
) -> Array:
    """LDR-k for k = 5, `[B]`; there must be as many classes."""
    return losses.ldr_kl(logits, labels, temperature=temperature, margin=margin, top_k=5, axis=axis)


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
        initial_rows: for a loss with state per training example: ``(setting, N, K, key) -> rows``
            before the first visit, arrays ``[N, ...]``; the key is for a random start.
    """

    function: Loss
    grid: Sequence[Mapping[str, Any]] = ({},)
    fixed: Mapping[str, Any] = types.MappingProxyType({})
    normalize: Normalization = unnormalized
    warmup: Mapping[str, float] = types.MappingProxyType({})
    views: int | None = None
    initial_rows: Callable[[Mapping[str, Any], int, int, Array], Any] | None = None


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
        initial_rows=lambda setting, n, *_: jnp.full(n, setting["temperature"], jnp.float32),
    ),
    "elr_step": LossEntry(
        losses.elr_step,
        tied(momentum=(0.7, 0.9, 0.9), weight=(3.0, 1.0, 7.0)),
        initial_rows=lambda _, n, num_classes, __: losses.elr_table(n, num_classes).values,
    ),
    # The papers' rates over batches of 128: for symmetric noise, human labels, asymmetric noise.
    "sop_step": LossEntry(
        losses.sop_step,
        tied(rate_u=(0.008, 0.08, 0.0008), rate_v=(0.08, 0.08, 0.8)),
        initial_rows=lambda _, n, num_classes, key: losses.sop_table(n, num_classes, key).values,
    ),
    "scent_step": LossEntry(
        losses.scent_step,
        tied(log_step=(0.0, 2.0, 10.0)),
        initial_rows=lambda _, n, *__: losses.scent_table(n).values,
    ),
    "confidence_regularized_cross_entropy": LossEntry(
        losses.confidence_regularized_cross_entropy,
        fixed={"weight": 2.0},
        warmup={"weight": 0.0},
    ),
    "epsilon_softmax_cross_entropy": LossEntry(
        losses.epsilon_softmax_cross_entropy, tied(mass=(1.0, 1e2, 1e4))
    ),
    "epsilon_softmax_mae": LossEntry(
        epsilon_softmax_mae,
        tied(alpha=(0.01, 0.02, 0.1), beta=(5.0, 5.0, 1.0), mass=(1e5, 1e3, 1e4)),
    ),
    "log_confidence": LossEntry(log_confidence, tied(weight=(0.25, 0.5, 0.75))),
    "logit_clip": LossEntry(logit_clip, tied(threshold=(1.0, 2.5, 5.0))),
    "nce_nnce": LossEntry(nce_nnce, tied(alpha=(1.0, 5.0, 10.0), beta=(1.0, 5.0, 1.0))),
    "nfl_nnfl": LossEntry(nfl_nnfl, tied(alpha=(1.0, 5.0, 10.0), beta=(1.0, 5.0, 1.0))),
}

# The LDR paper's losses that are consistent for the top k; a data set needs k classes for them.
TOP_K_LOSSES: dict[str, LossEntry] = {
    function.__name__: LossEntry(
        function, _TEMPERATURES, {"margin": 0.1}, losses.softplus_mean_normalize
    )
    for function in (ldr_k2, ldr_k5)
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

# What `--loss NAME` chooses from.
LOSSES: dict[str, Loss] = {name: entry.function for name, entry in CATALOGUE.items()}

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
    "kuzushiji49": data.kuzushiji49,
    "mnist": data.mnist,
    "tiny_imagenet": data.tiny_imagenet,
    "shapes32": shapes32,
} | OWN_SETS


def is_generated(choice: Any) -> bool:
    """Whether this is a data set that nobody measured: a run on one says so."""
    return getattr(choice, "func", choice) is shapes32
