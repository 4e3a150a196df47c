"""Methods with their grids on a data set, paired over seeds: search, statistics, tables."""

import lnl_jax._flax  # noqa: F401
from lnl_jax.comparison.mislabelled import score_training_parts
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.runs import Method, make_study, make_study_in_turn, search

__all__ = [
    "Method",
    "Network",
    "make_study",
    "make_study_in_turn",
    "score_training_parts",
    "search",
]
