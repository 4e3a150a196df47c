"""Tables of numbers whose rows have random views, with a long-tailed part to train on."""

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data
from lnl_jax.comparison.feature_heads import principal_features
from lnl_jax.comparison.table_sets import digits
from lnl_jax.data import augment
from lnl_jax.data.digits import NUM_CLASSES
from lnl_jax.runner.arguments import NotNegative, Range

SIDE = 8


class FeatureViews(NamedTuple):
    """How two views of a row of features are made.

    Attributes:
        drop: share of the columns that are 0 in a view.
        noise: deviation of what is added to the others, in that of all columns together.
    """

    drop: Annotated[float, Range(0, below=1)] = 0.0
    noise: NotNegative = 1.0


def viewed_table(
    dataset: Callable, data_dir: str | None, width: int, views: FeatureViews
) -> tuple[dict[str, np.ndarray], int, Callable[[jax.Array, jax.Array], jax.Array]]:
    """All examples of a table, the number of classes, and what makes a view of rows.

    Args:
        dataset: of `TABLE_SETS`; digits are moved as images.
        data_dir: the folder of its file.
        width: principal axes of other tables; 0 keeps the columns.
        views: of other tables.
    """
    if dataset is digits:

        def view(key, x):
            return augment.random_affine(key, x.reshape(-1, SIDE, SIDE)).reshape(x.shape)

        return data.digits(), NUM_CLASSES, view
    splits = dataset(data_dir)
    x = principal_features(splits.train["x"], len(splits.train["x"]), width or None)
    view = functools.partial(dropped_view, **views._asdict())
    return {"x": x, "label": splits.train["label"]}, splits.num_classes, view


def held_out_parts(
    pool: Mapping[str, np.ndarray], imbalance: float, seed: int, sizes: Mapping[str, int]
) -> dict[str, dict[str, np.ndarray]]:
    """A long-tailed part to train on, and the halves of each class that was held out.

    Args:
        pool: all examples.
        imbalance: see `data.long_tailed_parts`.
        seed: of the draw.
        sizes: further arguments of that function.
    """
    train_part, rest = data.long_tailed_parts(pool, imbalance, np.random.default_rng(seed), **sizes)
    validation, test = data.class_halves(rest)
    return {"train": train_part, "validation": validation, "test": test}


def dropped_view(key: jax.Array, x: jax.Array, *, drop: float, noise: float) -> jax.Array:
    """A random view of rows of features: noise is added, then columns are dropped.

    Args:
        key: of the random numbers.
        x: ``[N, D]``.
        drop: share of the columns that are 0, below 1; the others are enlarged for them.
        noise: its deviation.

    Returns:
        The same shape.
    """
    places, values = jax.random.split(key)
    kept = jax.random.bernoulli(places, 1 - drop, x.shape)
    noisy = x + noise * jax.random.normal(values, x.shape)
    return jnp.where(kept, noisy / (1 - drop), 0)
