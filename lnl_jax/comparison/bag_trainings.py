"""Networks that learn from bags of examples, many of them as one compiled program."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from lnl_jax import data, train
from lnl_jax._host_arguments import check_integer, check_number
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.runs import Method, make_trainer, stack_settings

# A mean prediction is cut to so much within 0 and 1, whose log-odds are infinite.
MARGIN = 1e-6


class BagWeights(NamedTuple):
    """What one network learns from.

    Attributes:
        labels: weight of the cross-entropy of the labels of the examples.
        embedding: of that of the share of the bag, from the mean embedding of its examples.
        proportion: of that of the share of the bag, from the mean prediction of its examples.
    """

    labels: float = 0.0
    embedding: float = 0.0
    proportion: float = 0.0


class BagTrainings(NamedTuple):
    """What the networks say after training.

    Attributes:
        embeddings: of the examples, the last hidden layer, ``[R, B, m, width]``.
        odds: log-odds of the examples to be positive, ``[R, B, m]``.
        test_odds: of the test examples, ``[R, J]``.
    """

    embeddings: np.ndarray
    odds: np.ndarray
    test_odds: np.ndarray


class BagNetwork(nn.Module):
    """Examples of a bag to embeddings, their log-odds, and the log-odds of the bag.

    Attributes:
        width: of both hidden layers.
        dtype: in which they compute; None means that of the inputs.
    """

    width: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """``[..., m, D]`` to ``[..., m, width]``, ``[..., m]`` and ``[...]``."""
        hidden = nn.tanh(nn.Dense(self.width, dtype=self.dtype)(x))
        embedding = nn.tanh(nn.Dense(self.width, dtype=self.dtype)(hidden)).astype(x.dtype)
        of_bag = nn.Dense(1)(embedding.mean(-2))
        return embedding, nn.Dense(1)(embedding)[..., 0], of_bag[..., 0]


def train_on_bags(
    inputs: ArrayLike,
    labels: ArrayLike,
    shares: ArrayLike,
    test_inputs: ArrayLike,
    weights: list[BagWeights],
    *,
    seeds: list[int],
    width: int = 64,
    epochs: int = 30,
    bags_per_step: int = 4,
    learning_rate: float = 0.05,
    dtype: Any = None,
) -> BagTrainings:
    r"""Trains R networks side by side, each on bags, labels and weights of its own.

    .. math::
        w_\ell \operatorname{mean}_i H(y_i, p_i) + w_e H(n / m, \sigma(f(\bar e)))
        + w_p H(n / m, \operatorname{mean}_i p_i)

    for a bag, H the binary cross-entropy; the last is the proportion loss. SGD with momentum, the
    rate falls as a cosine.

    Args:
        inputs: features in bags of one size, ``[R, B, m, D]``.
        labels: of the examples, from 0 to 1, such as pseudo-labels, ``[R, B, m]``.
        shares: of the positives in each bag, from 0 to 1, ``[R, B]``.
        test_inputs: ``[R, J, D]``.
        weights: a `BagWeights` for each network.
        seeds: of initialisation and order, one for each; networks of one seed share both.
        width: of the two hidden layers.
        epochs: passes over the bags.
        bags_per_step: how many, at most all.
        learning_rate: at the start.
        dtype: in which the network computes, such as ``jnp.bfloat16``; parameters and what it
            returns are float32 all the same. None means that of the inputs.

    Returns:
        The `BagTrainings`.

    Raises:
        ValueError: if shapes do not fit each other, or a number is out of range.

    Example:
        >>> x = np.float32([[[[-1.0], [1.0]], [[-2.0], [-1.0]], [[1.0], [2.0]]]])
        >>> found = train_on_bags(
        ...     x, x[..., 0] > 0, [[0.5, 0.0, 1.0]], [[[-3.0], [3.0]]],
        ...     [BagWeights(labels=1.0)], seeds=[0], bags_per_step=3, epochs=100,
        ... )
        >>> (found.test_odds > 0).tolist()
        [[False, True]]

    References:
        Havaldar et al., "Learning from Label Proportions: Bootstrapping Supervised Learners via
        Belief Propagation" (ICLR 2024), Section 3; Ardehaly and Culotta, "Co-training for
        Demographic Classification Using Deep Learning from Label Proportions" (ICDMW 2017), the
        proportion loss.
    """
    given = {"inputs": inputs, "labels": labels, "shares": shares, "test_inputs": test_inputs}
    arrays = {name: np.asarray(values, np.float32) for name, values in given.items()}
    _check_shapes(arrays, len(weights), len(seeds))
    for name, value in (("width", width), ("epochs", epochs), ("bags_per_step", bags_per_step)):
        check_integer(name, value)
    check_number("learning_rate", learning_rate, above=0)
    bags = arrays["inputs"].shape[1]
    bags_per_step = min(bags_per_step, bags)
    model = BagNetwork(width, dtype)

    def loss_fn(setting, known, params, extra, rows, batch, key):
        _, odds, of_bag = model.apply(params, batch["x"])
        entropy = optax.sigmoid_binary_cross_entropy
        weigh = BagWeights(*known["weights"])
        mean = jnp.clip(jax.nn.sigmoid(odds).mean(-1), MARGIN, 1 - MARGIN)
        of_mean = entropy(jnp.log(mean) - jnp.log1p(-mean), batch["share"])
        losses = weigh.labels * entropy(odds, batch["label"]).mean(-1)
        losses += weigh.embedding * entropy(of_bag, batch["share"]) + weigh.proportion * of_mean
        return losses, (extra, rows, {})

    def measure(setting, data_set, state):
        embeddings, odds, _ = model.apply(state.params, data_set["train"]["x"])
        _, test_odds, _ = model.apply(state.params, data_set["test_x"])
        return BagTrainings(embeddings, odds, test_odds)._asdict()

    method = Method("bags", loss_fn, [{"learning_rate": learning_rate}])
    schedule = optax.cosine_decay_schedule(1.0, epochs * -(-bags // bags_per_step))
    data_sets = {
        "train": {"x": arrays["inputs"], "label": arrays["labels"], "share": arrays["shares"]},
        "test_x": arrays["test_inputs"],
        "params": initial_variables(model, arrays["inputs"][0, 0], seeds),
        "seed": np.array(seeds),
        "known": {"weights": np.float32(weights)},
    }
    trainer = make_trainer(method, schedule, measure)
    runs = train.in_lanes(trainer, stack_settings(method.settings), data_sets)
    plan, state = data.epoch_plans(bags, bags_per_step, seeds), runs.state
    for epoch in range(epochs):
        state, _ = runs.run_steps(state, plan(epoch))
    return BagTrainings(**{name: values[:, 0] for name, values in runs.measure(state).items()})


def _check_shapes(arrays: dict[str, np.ndarray], weights: int, seeds: int) -> None:
    shape = arrays["inputs"].shape
    if len(shape) != 4 or 0 in shape:
        raise ValueError(f"inputs must have the shape [R, B, m, D], got {shape}.")
    wanted = {"labels": shape[:3], "shares": shape[:2]}
    for name, of_it in wanted.items():
        if arrays[name].shape != of_it:
            raise ValueError(
                f"{name} must have the shape {of_it} of inputs {shape}, got {arrays[name].shape}."
            )
        if not ((arrays[name] >= 0) & (arrays[name] <= 1)).all():
            raise ValueError(f"{name} must be from 0 to 1.")
    test = arrays["test_inputs"].shape
    if len(test) != 3 or test[0] != shape[0] or test[2] != shape[3]:
        raise ValueError(
            f"test_inputs must have the shape [R, J, D] of inputs {shape}, got {test}."
        )
    if weights != shape[0] or seeds != shape[0]:
        raise ValueError(
            f"weights and seeds must be one for each of the {shape[0]} networks, got {weights} "
            f"and {seeds}."
        )
