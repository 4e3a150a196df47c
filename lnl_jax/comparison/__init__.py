"""Methods with their grids on a data set, paired over seeds: search, statistics, tables.

Which loss should be trained with? On features or a table of one's own, ``x [N, columns]`` and
``label [N]``, in two folds, each of which validates once. A noise may make false labels of some, to
see which loss withstands them; here none does, `np.eye(K)`.

Example:
    >>> import functools
    >>> import numpy as np
    >>> from lnl_jax import comparison, models
    >>> from lnl_jax.comparison import CATALOGUE
    >>> label = np.arange(40, dtype=np.int32) % 2
    >>> x = np.float32(label[:, None] + np.random.default_rng(0).normal(size=(40, 3)) / 4)
    >>> rows = {"x": x[:20], "label": label[:20], "index": np.arange(20)}
    >>> test = {"x": x[20:], "label": label[20:]}

    >>> folds = list(comparison.noisy_folds(rows, test, np.eye(2), 2, seed=0))
    >>> model = models.MLP(num_classes=2, hidden=(8,))
    >>> network = comparison.tabular(model)
    >>> make = functools.partial(comparison.robust_loss, network=network, total_steps=20)
    >>> methods = [make(CATALOGUE[name].function, [0.3]) for name in ("cross_entropy", "ldr_kl")]
    >>> params = comparison.initial_variables(model, x[:1], range(len(folds)))
    >>> measure = functools.partial(comparison.measure, network)
    >>> run = comparison.search_in_lanes(methods, params, folds, measure, epochs=20, batch_size=10)
    >>> outcome = comparison.finish(run)
    >>> [(row["method"], row["accuracy %"] > 90) for row in comparison.results_table(outcome)]
    [('cross_entropy', True), ('ldr_kl', True)]
"""

import lnl_jax._flax  # noqa: F401
from lnl_jax.comparison.bag_trainings import BagTrainings, BagWeights, train_on_bags
from lnl_jax.comparison.catalogue import CATALOGUE, LossEntry
from lnl_jax.comparison.cross_validation import cross_validated_probabilities
from lnl_jax.comparison.distribution_training import train_on_distributions
from lnl_jax.comparison.images import compare_on_images
from lnl_jax.comparison.methods import measure, robust_loss
from lnl_jax.comparison.mislabelled import score_training_parts
from lnl_jax.comparison.networks import Network, initial_variables, tabular, tabular_in_lanes
from lnl_jax.comparison.noisy_folds import noisy_folds
from lnl_jax.comparison.noisy_images import NoisyImages
from lnl_jax.comparison.outcome import Outcome, curves_figure, results_table
from lnl_jax.comparison.runs import Method, make_trainer, stack_settings
from lnl_jax.comparison.search import finish, search, search_in_lanes
from lnl_jax.comparison.statistics import (
    LabelPurchase,
    budget_grid,
    grid,
    paired_gain,
    pareto_front,
)
from lnl_jax.comparison.subset_trainings import SubsetTrainings, train_on_subsets

__all__ = [
    "CATALOGUE",
    "BagTrainings",
    "BagWeights",
    "LabelPurchase",
    "LossEntry",
    "Method",
    "Network",
    "NoisyImages",
    "Outcome",
    "SubsetTrainings",
    "budget_grid",
    "compare_on_images",
    "cross_validated_probabilities",
    "curves_figure",
    "finish",
    "grid",
    "initial_variables",
    "make_trainer",
    "measure",
    "noisy_folds",
    "paired_gain",
    "pareto_front",
    "results_table",
    "robust_loss",
    "score_training_parts",
    "search",
    "search_in_lanes",
    "stack_settings",
    "tabular",
    "tabular_in_lanes",
    "train_on_bags",
    "train_on_distributions",
    "train_on_subsets",
]
