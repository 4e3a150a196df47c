"""Who is right: from probabilities, annotations, features and records of a training."""

from lnl_jax.label_models._influence import (
    ridge_leave_one_out,
    ridge_removal_effects,
    softmax_removal_effects,
)
from lnl_jax.label_models._memorization import (
    influence_estimates,
    long_tail_tau,
    memorization_estimates,
)
from lnl_jax.label_models._nearest import (
    Neighbours,
    cosine_distance,
    euclidean_distance,
    nearest_neighbours,
)
from lnl_jax.label_models._neighbour_votes import (
    ConsensusMoments,
    NeighbourLabels,
    TransitionEstimate,
    consensus_moments,
    fit_transition,
    flag_by_rank,
    knn_label_scores,
)
from lnl_jax.label_models._proportions import SimilarityEdges, bag_marginals, similarity_edges
from lnl_jax.label_models._training_records import area_under_margin, forgetting
from lnl_jax.label_models._valuation import knn_shapley, knn_shapley_of_others, out_of_bag_values

__all__ = [
    "ConsensusMoments",
    "NeighbourLabels",
    "Neighbours",
    "SimilarityEdges",
    "TransitionEstimate",
    "area_under_margin",
    "bag_marginals",
    "consensus_moments",
    "cosine_distance",
    "euclidean_distance",
    "fit_transition",
    "flag_by_rank",
    "forgetting",
    "influence_estimates",
    "knn_label_scores",
    "knn_shapley",
    "knn_shapley_of_others",
    "long_tail_tau",
    "memorization_estimates",
    "nearest_neighbours",
    "out_of_bag_values",
    "ridge_leave_one_out",
    "ridge_removal_effects",
    "similarity_edges",
    "softmax_removal_effects",
]
