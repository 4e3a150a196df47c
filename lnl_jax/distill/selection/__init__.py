"""Which examples to keep, or to have labelled."""

from lnl_jax.distill.selection._difficulty import (
    area_under_margin,
    coverage_sample,
    el2n,
    forgetting,
)
from lnl_jax.distill.selection._queries import (
    inclusion_probabilities,
    query_weights,
    query_weights_with_cost,
    systematic_sample,
)

__all__ = [
    "area_under_margin",
    "coverage_sample",
    "el2n",
    "forgetting",
    "inclusion_probabilities",
    "query_weights",
    "query_weights_with_cost",
    "systematic_sample",
]
