"""Methods with their grids on a data set, paired over seeds: search, statistics, tables."""

import lnl_jax._flax  # noqa: F401
from lnl_jax.comparison.catalogue import CATALOGUE, LossEntry
from lnl_jax.comparison.methods import measure, robust_loss
from lnl_jax.comparison.mislabelled import score_training_parts
from lnl_jax.comparison.networks import Network, initial_variables, tabular, tabular_in_lanes
from lnl_jax.comparison.noisy_folds import noisy_folds
from lnl_jax.comparison.outcome import Outcome, curves_figure, results_table
from lnl_jax.comparison.runs import Method, make_trainer, stack_settings
from lnl_jax.comparison.search import search
from lnl_jax.comparison.statistics import grid, paired_gain

__all__ = [
    "CATALOGUE",
    "LossEntry",
    "Method",
    "Network",
    "Outcome",
    "curves_figure",
    "grid",
    "initial_variables",
    "make_trainer",
    "measure",
    "noisy_folds",
    "paired_gain",
    "results_table",
    "robust_loss",
    "score_training_parts",
    "search",
    "stack_settings",
    "tabular",
    "tabular_in_lanes",
]
