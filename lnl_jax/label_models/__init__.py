"""Who is right: from probabilities, annotations, features and records of a training."""

from lnl_jax.label_models._annotations import Annotations, read_annotations
from lnl_jax.label_models._confident_filters import (
    confident_issues,
    differing_issues,
    lowest_scores,
    prune_by_both,
    prune_by_class,
    prune_by_noise_rate,
)
from lnl_jax.label_models._confident_joint import (
    ConfidentJoint,
    calibrate_joint,
    class_prior,
    confident_joint,
    confident_thresholds,
    inverse_noise_matrix,
    noise_matrix,
)
from lnl_jax.label_models._crowdlab import (
    ActiveLab,
    Crowdlab,
    active_lab,
    annotator_temperature,
    crowdlab,
)
from lnl_jax.label_models._dawid_skene import DawidSkene, dawid_skene
from lnl_jax.label_models._glad import Glad, glad
from lnl_jax.label_models._influence import (
    ridge_leave_one_out,
    ridge_removal_effects,
    softmax_removal_effects,
)
from lnl_jax.label_models._label_issues import LabelIssues, find_label_issues
from lnl_jax.label_models._label_scores import (
    adjusted_probabilities,
    confidence_weighted_entropy,
    moving_minimum,
    normalized_margin,
    self_confidence,
    soft_minimum,
)
from lnl_jax.label_models._loss_mixture import (
    BetaLossMixture,
    LossMixture,
    beta_loss_mixture,
    loss_mixture,
)
from lnl_jax.label_models._mace import Mace, MaceStarts, mace, mace_starts
from lnl_jax.label_models._memorization import (
    influence_estimates,
    long_tail_tau,
    memorization_estimates,
)
from lnl_jax.label_models._multilabel_issues import (
    MultilabelIssues,
    find_multilabel_issues,
    multilabel_scores,
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
from lnl_jax.label_models._outliers import (
    NearDuplicates,
    near_duplicates,
    outlier_flags,
    outlier_scores,
)
from lnl_jax.label_models._pairwise import (
    BradleyTerry,
    Choice,
    accept_or_review,
    bradley_terry,
    pairwise_wins,
)
from lnl_jax.label_models._proportions import (
    SimilarityEdges,
    bag_count_marginals,
    bag_marginals,
    similarity_edges,
)
from lnl_jax.label_models._regression_scores import outlying_residual_scores, residual_scores
from lnl_jax.label_models._reviewed import ReviewedLabels, reviewed_labels
from lnl_jax.label_models._token_issues import TokenIssues, find_token_issues
from lnl_jax.label_models._training_records import area_under_margin, forgetting
from lnl_jax.label_models._valuation import knn_shapley, knn_shapley_of_others, out_of_bag_values
from lnl_jax.label_models._votes import (
    Consensus,
    average_distribution,
    majority_vote,
    normalized_votes,
    softmax_votes,
    wawa,
    zero_based_skill,
)

__all__ = [
    "ActiveLab",
    "Annotations",
    "BetaLossMixture",
    "BradleyTerry",
    "Choice",
    "ConfidentJoint",
    "Consensus",
    "ConsensusMoments",
    "Crowdlab",
    "DawidSkene",
    "Glad",
    "LabelIssues",
    "LossMixture",
    "Mace",
    "MaceStarts",
    "MultilabelIssues",
    "NearDuplicates",
    "NeighbourLabels",
    "Neighbours",
    "ReviewedLabels",
    "SimilarityEdges",
    "TokenIssues",
    "TransitionEstimate",
    "accept_or_review",
    "active_lab",
    "adjusted_probabilities",
    "annotator_temperature",
    "area_under_margin",
    "average_distribution",
    "bag_count_marginals",
    "bag_marginals",
    "beta_loss_mixture",
    "bradley_terry",
    "calibrate_joint",
    "class_prior",
    "confidence_weighted_entropy",
    "confident_issues",
    "confident_joint",
    "confident_thresholds",
    "consensus_moments",
    "cosine_distance",
    "crowdlab",
    "dawid_skene",
    "differing_issues",
    "euclidean_distance",
    "find_label_issues",
    "find_multilabel_issues",
    "find_token_issues",
    "fit_transition",
    "flag_by_rank",
    "forgetting",
    "glad",
    "influence_estimates",
    "inverse_noise_matrix",
    "knn_label_scores",
    "knn_shapley",
    "knn_shapley_of_others",
    "long_tail_tau",
    "loss_mixture",
    "lowest_scores",
    "mace",
    "mace_starts",
    "majority_vote",
    "memorization_estimates",
    "moving_minimum",
    "multilabel_scores",
    "near_duplicates",
    "nearest_neighbours",
    "noise_matrix",
    "normalized_margin",
    "normalized_votes",
    "out_of_bag_values",
    "outlier_flags",
    "outlier_scores",
    "outlying_residual_scores",
    "pairwise_wins",
    "prune_by_both",
    "prune_by_class",
    "prune_by_noise_rate",
    "read_annotations",
    "residual_scores",
    "reviewed_labels",
    "ridge_leave_one_out",
    "ridge_removal_effects",
    "self_confidence",
    "similarity_edges",
    "soft_minimum",
    "softmax_removal_effects",
    "softmax_votes",
    "wawa",
    "zero_based_skill",
]
