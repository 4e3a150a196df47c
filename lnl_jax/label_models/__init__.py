"""Who is right: from probabilities, annotations, features and records of a training."""

from lnl_jax.label_models._nearest import (
    Neighbours,
    cosine_distance,
    euclidean_distance,
    nearest_neighbours,
)
from lnl_jax.label_models._training_records import area_under_margin, forgetting

__all__ = [
    "Neighbours",
    "area_under_margin",
    "cosine_distance",
    "euclidean_distance",
    "forgetting",
    "nearest_neighbours",
]
