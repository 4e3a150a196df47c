"""Who is right: from probabilities, annotations, features and records of a training."""

from lnl_jax.label_models._training_records import area_under_margin, forgetting

__all__ = [
    "area_under_margin",
    "forgetting",
]
