"""Which examples to keep, or to have labelled."""

from lnl_jax.distill.selection._difficulty import (
    coverage_sample,
    el2n,
)
from lnl_jax.distill.selection._queries import (
    inclusion_probabilities,
    query_weights,
    query_weights_with_cost,
    systematic_sample,
)

__all__ = [
    "coverage_sample",
    "el2n",
    "inclusion_probabilities",
    "query_weights",
    "query_weights_with_cost",
    "systematic_sample",
]
