"""Public functions of every room with arguments that are right, of a few fixed shapes."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lnl_jax import (
    contrastive,
    evaluation,
    losses,
    metrics,
    noise,
    reweighting,
    semi_supervised,
)
from tests.label_models.cases import CASES as OF_LABELS
from tests.losses.cases import CASES as OF_LOSSES

B, K = 6, 4
_RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(2 * _RNG.normal(size=(B, K)), jnp.float32)
LABELS = jnp.asarray(_RNG.integers(K, size=B), jnp.int32)
LOSSES = jnp.asarray(np.abs(_RNG.normal(size=B)), jnp.float32)
QUERIES, KEYS = (jnp.asarray(_RNG.normal(size=(B, 3)), jnp.float32) for _ in range(2))
SCORES = jnp.asarray(_RNG.normal(size=(B, K)), jnp.float32)
PARTLY = jnp.asarray(np.arange(B * K).reshape(B, K) % 3 - 1, jnp.int32)
GROUPS = jnp.arange(B) % 3
CLASSES = np.asarray(LABELS)
PROBABILITIES = np.full((B, K), 0.25)
WHERE = jnp.ones(B, bool)
WRAPPED = ("aldr_kl_step", "elr_step", "sop_step", "scent_step", "generalized_jensen_shannon")


class Call(NamedTuple):
    """A function and its arguments by name."""

    function: Callable
    arguments: dict[str, Any]

    def __call__(self, **changes):
        return self.function(**self.arguments | changes)


def _of_loss(case):
    arguments = {
        name: value if name in case.static else jnp.asarray(value, jnp.float32)
        for name, value in case.arguments(K).items()
        if name not in case.hyperparameters
    }
    return Call(
        case.function, {"logits": LOGITS, "labels": LABELS} | case.hyperparameters | arguments
    )


def _with_rows(name, rows):
    call = _of_loss(OF_LOSSES[name])
    given = {"logits": LOGITS, "labels": LABELS, "rows": rows}
    function = getattr(losses, name)
    names = list(inspect.signature(function).parameters)
    given = {names[2] if key == "rows" else key: value for key, value in given.items()}
    return Call(function, call.arguments | given)


def _of_label_model(case):
    bound = inspect.signature(case.function).bind(*case.arguments, **case.settings)
    plain = all(
        p.kind is not p.VAR_POSITIONAL for p in inspect.signature(case.function).parameters.values()
    )
    return Call(case.function, dict(bound.arguments)) if plain else None


_LOSSES = {
    f"losses.{name}": _of_loss(case)
    for name, case in OF_LOSSES.items()
    if not case.variant and name not in WRAPPED
}
_LOSSES["losses.aldr_kl_step"] = _with_rows("aldr_kl_step", jnp.full(B, 0.8))
_LOSSES["losses.elr_step"] = _with_rows("elr_step", jnp.full((B, K), 0.1))
_LOSSES["losses.sop_step"] = _with_rows(
    "sop_step", losses.SopRows(jnp.full(B, 0.3), jnp.full((B, K), 0.1))
)
_LOSSES["losses.scent_step"] = _with_rows("scent_step", jnp.full(B, 0.5))
_LOSSES["losses.generalized_jensen_shannon"] = Call(
    losses.generalized_jensen_shannon,
    {"logits": jnp.stack([LOGITS] * 2), "labels": LABELS, "weights": (0.3, 0.5, 0.2)},
)

PAIRS = {"queries": QUERIES, "keys": KEYS}
_CONTRASTIVE = {
    "info_nce": PAIRS | {"temperature": 0.5},
    "decoupled_contrastive": PAIRS | {"temperature": 0.5},
    "sigmoid_contrastive": PAIRS | {"temperature": 0.5, "bias": -1.0},
    "contrastive_statistics": PAIRS | {"temperature": 0.5},
    "sogclr": PAIRS | {"log_u": jnp.zeros(B), "temperature": 0.5, "gamma": 0.8},
}
_REWEIGHTING = {
    "kl_dro_weights": {"losses": LOSSES, "temperature": 0.7, "where": WHERE},
    "kl_dro_value": {"losses": LOSSES, "temperature": 0.7, "where": WHERE},
    "kl_ball_weights": {"losses": LOSSES, "radius": 0.3, "where": WHERE},
    "kl_ball_value": {"losses": LOSSES, "radius": 0.3},
    "chi2_ball_weights": {"losses": LOSSES, "radius": 0.6, "where": WHERE},
    "chi2_ball_value": {"losses": LOSSES, "radius": 0.6},
    "cvar_weights": {"losses": LOSSES, "fraction": 0.4, "where": WHERE},
    "cvar_value": {"losses": LOSSES, "fraction": 0.4},
}
_SEMI = {
    "sigmoid_surrogate": {"margins": SCORES},
    "nn_pu": {"logits": SCORES[:, 0], "labels": PARTLY[:, 0], "prior": 0.3, "where": WHERE},
    "pu_mlc": {"logits": SCORES, "labels": PARTLY, "alpha": 0.4, "gamma": 0.5, "where": WHERE},
}
_METRICS = {
    "accuracy": {"logits": LOGITS, "labels": LABELS, "where": WHERE},
    "top_k_accuracy": {"logits": LOGITS, "labels": LABELS, "k": 2, "where": WHERE},
    "per_class_accuracy": {"logits": LOGITS, "labels": LABELS, "where": WHERE},
    "negative_log_likelihood": {"logits": LOGITS, "labels": LABELS, "where": WHERE},
    "calibration_bins": {"logits": LOGITS, "labels": LABELS, "where": WHERE},
    "brier_score": {"logits": LOGITS, "labels": LABELS, "where": WHERE},
    "auroc": {"scores": LOGITS[:, 0], "positives": LABELS > 1, "where": WHERE},
    "average_precision": {"scores": LOGITS[:, 0], "positives": LABELS > 1, "where": WHERE},
    "effective_rank": {"features": QUERIES},
}
_EVALUATION = {
    "standardize": {"features": QUERIES, "reference": KEYS},
    "unit_rows": {"features": QUERIES},
    "knn_scores": {
        "queries": KEYS, "keys": QUERIES, "labels": LABELS, "num_classes": K, "num_neighbours": 3,
    },
    "zero_shot_scores": {"images": QUERIES, "classes": KEYS},
}  # fmt: skip
_NOISE = {
    "symmetric": {"num_classes": K, "rate": 0.3},
    "pairflip": {"num_classes": K, "rate": 0.3},
    "cyclic": {"num_classes": K},
    "corrupt": {
        "labels": CLASSES, "matrix": np.full((K, K), 0.25), "rng": np.random.default_rng(0),
    },
}  # fmt: skip


def _named(room, table):
    """The calls, without arguments that a function does not have."""
    found = {}
    for name, given in table.items():
        function = getattr(room, name)
        found[f"{room.__name__.split('.')[-1]}.{name}"] = Call(function, given)
    return found


_LABEL_MODELS = {
    f"label_models.{name}": call
    for name, case in OF_LABELS.items()
    if (call := _of_label_model(case)) is not None
}
CALLS = {
    **_LOSSES,
    **_named(contrastive, _CONTRASTIVE),
    **_named(reweighting, _REWEIGHTING),
    **_named(semi_supervised, _SEMI),
    **_named(metrics, _METRICS),
    **_named(evaluation, _EVALUATION),
    **_named(noise, _NOISE),
    **_LABEL_MODELS,
}
