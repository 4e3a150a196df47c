"""Methods with their grids on a data set, paired over seeds: search, statistics, tables.

Which loss should be trained with? On features or a table of one's own, ``x [N, columns]`` and
``label [N]``, with two folds, of which each validates once, and the false labels that a noise makes
(`np.eye(K)` makes none: then the labels are compared as they are):

    >>> import functools
    >>> import numpy as np
    >>> from lnl_jax import comparison, models
    >>> label = np.arange(40, dtype=np.int32) % 2
    >>> x = np.float32(label[:, None] + np.random.default_rng(0).normal(size=(40, 3)) / 4)
    >>> rows, test = ({"x": x[i], "label": label[i], "index": np.arange(20)} for i in (
    ...     slice(20), slice(20, 40)))
    >>> folds = list(comparison.noisy_folds(rows, test, np.eye(2), 2, seed=0))
    >>> model = models.MLP(num_classes=2, hidden=(8,))
    >>> network = comparison.tabular(model)
    >>> methods = [
    ...     comparison.robust_loss(
    ...         comparison.CATALOGUE[name].function, [0.3], network=network, total_steps=20
    ...     )
    ...     for name in ("cross_entropy", "ldr_kl")
    ... ]
    >>> outcome = comparison.finish(
    ...     comparison.search_in_lanes(
    ...         methods,
    ...         comparison.initial_variables(model, x[:1], range(2)),
    ...         folds,
    ...         functools.partial(comparison.measure, network),
    ...         epochs=20,
    ...         batch_size=10,
    ...     )
    ... )
    >>> [(row["method"], row["accuracy %"] > 90) for row in comparison.results_table(outcome)]
    [('cross_entropy', True), ('ldr_kl', True)]
"""

import lnl_jax._flax  # noqa: F401
from lnl_jax.comparison.catalogue import CATALOGUE, LossEntry
from lnl_jax.comparison.methods import measure, robust_loss
from lnl_jax.comparison.mislabelled import score_training_parts
from lnl_jax.comparison.networks import Network, initial_variables, tabular, tabular_in_lanes
from lnl_jax.comparison.noisy_folds import noisy_folds
from lnl_jax.comparison.outcome import Outcome, curves_figure, results_table
from lnl_jax.comparison.runs import Method, make_trainer, stack_settings
from lnl_jax.comparison.search import finish, search, search_in_lanes
from lnl_jax.comparison.statistics import grid, paired_gain

__all__ = [
    "CATALOGUE",
    "LossEntry",
    "Method",
    "Network",
    "Outcome",
    "curves_figure",
    "finish",
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
    "search_in_lanes",
    "stack_settings",
    "tabular",
    "tabular_in_lanes",
]
