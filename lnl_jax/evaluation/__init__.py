"""How good frozen features are: linear probe, nearest neighbours, retrieval, zero-shot classes.

All take features as arrays; who made them, and whether they have unit norm, is the caller's.
"""

from lnl_jax.evaluation._neighbours import knn_scores, nearest, retrieval_ranks
from lnl_jax.evaluation._probe import LinearProbe, fit_linear_probe, probe_scores
from lnl_jax.evaluation._zero_shot import class_embeddings, zero_shot_scores

__all__ = [
    "LinearProbe",
    "class_embeddings",
    "fit_linear_probe",
    "knn_scores",
    "nearest",
    "probe_scores",
    "retrieval_ranks",
    "zero_shot_scores",
]
