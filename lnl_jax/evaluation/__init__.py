"""How good frozen features are: linear probe, nearest neighbours, retrieval, zero-shot classes.

All take features as arrays; who made them, and whether they have unit norm
(`unit_rows`) or are standardised (`standardize`), is the caller's.
"""

from lnl_jax.evaluation._features import balanced_weights, standardize, unit_rows
from lnl_jax.evaluation._neighbours import knn_scores, nearest, retrieval_ranks
from lnl_jax.evaluation._probe import LinearProbe, fit_linear_probe, probe_scores
from lnl_jax.evaluation._zero_shot import class_embeddings, zero_shot_scores

__all__ = [
    "LinearProbe",
    "balanced_weights",
    "class_embeddings",
    "fit_linear_probe",
    "knn_scores",
    "nearest",
    "probe_scores",
    "retrieval_ranks",
    "standardize",
    "unit_rows",
    "zero_shot_scores",
]
