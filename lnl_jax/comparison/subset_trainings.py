"""Many trainings on random subsets of a data set: who knows what without having seen it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from lnl_jax import data, models, train
from lnl_jax._host_arguments import (
    check_integer,
    check_number,
    check_seed,
    count_classes,
    host_classes,
)
from lnl_jax.comparison.catalogue import LossEntry, cross_entropy
from lnl_jax.comparison.cross_validation import method_of, of_shared_rows, read_inputs
from lnl_jax.comparison.networks import Network, initial_variables, tabular_in_lanes
from lnl_jax.comparison.runs import make_trainer, stack_settings


class SubsetTrainings(NamedTuple):
    """What networks that were trained on random subsets predict right.

    Attributes:
        correct: boolean, ``[T, N]``: whether the prediction of a training example is its label.
        test_correct: boolean, ``[T, J]``: of a test example.
        in_subset: boolean, ``[T, N]``: whether the example was trained on.
    """

    correct: np.ndarray
    test_correct: np.ndarray
    in_subset: np.ndarray


def train_on_subsets(
    inputs: ArrayLike,
    labels: ArrayLike,
    test_inputs: ArrayLike,
    test_labels: ArrayLike,
    *,
    trainings: int = 200,
    subset: float = 0.7,
    loss: Callable | LossEntry = cross_entropy,
    num_classes: int | None = None,
    hidden: Sequence[int] = (64, 64),
    seed: int = 0,
    epochs: int = 40,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    weight_decay: float = 0.0,
    dtype: Any = None,
) -> SubsetTrainings:
    """Trains many networks, each on a random subset, as one compiled program.

    Each training has a subset, an initialisation and an order of its own. What it returns is what
    `label_models.memorization_estimates`, `label_models.influence_estimates` and
    `label_models.out_of_bag_values` are computed from. SGD with momentum; the rate falls tenfold
    after half and after three quarters of the steps.

    Args:
        inputs: features ``[N, D]``, brought to mean 0 and deviation 1, or images of uint8, ``[N, H,
            W]`` or ``[N, H, W, C]``.
        labels: integers from 0 to K - 1, ``[N]``.
        test_inputs: ``[J, D]``, of the same columns, scaled as the training examples are.
        test_labels: integers, ``[J]``.
        trainings: T.
        subset: share of the examples that each training sees, above 0 and below 1.
        loss: ``(logits, labels, ..., axis) -> losses``, as of `cross_validated_probabilities`, with
            one setting.
        num_classes: K; by default one more than the largest label.
        hidden: widths of the hidden layers; none is a linear head.
        seed: of subsets, initialisations and orders.
        epochs: passes over a subset.
        batch_size: examples per step.
        learning_rate: at the start.
        weight_decay: added to the gradient.
        dtype: in which the network computes, such as ``jnp.bfloat16``; parameters and scores are
            float32 all the same. None means that of the inputs.

    Returns:
        The `SubsetTrainings`.

    Raises:
        ValueError: for inputs that are not finite or do not fit each other, labels outside of the
            classes, or numbers out of range.

    Example:
        >>> label = np.arange(40) % 2
        >>> x = label[:, None] + np.random.default_rng(0).normal(size=(40, 3)) / 4
        >>> found = train_on_subsets(
        ...     x[:30], label[:30], x[30:], label[30:], trainings=3, hidden=(8,), epochs=20
        ... )
        >>> found.correct.shape, found.in_subset.sum(1).tolist()
        ((3, 30), [21, 21, 21])

    References:
        Feldman and Zhang, "What Neural Networks Memorize and Why: Discovering the Long Tail via
        Influence Estimation" (NeurIPS 2020), Algorithm 1.
    """
    x, test_x = _read_both(inputs, test_inputs)
    num_classes = count_classes(labels) if num_classes is None else num_classes
    labels = host_classes(labels, len(x), num_classes)
    test_labels = host_classes(test_labels, len(test_x), num_classes, "test_labels")
    for name, value in (("trainings", trainings), ("epochs", epochs), ("batch_size", batch_size)):
        check_integer(name, value)
    check_number("subset", subset, above=0, below=1)
    check_number("learning_rate", learning_rate, above=0)
    check_number("weight_decay", weight_decay, at_least=0)
    check_seed("seed", seed)

    size = max(1, int(subset * len(x)))
    batch_size = min(batch_size, size)
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(len(x))[:size] for _ in range(trainings)])
    streams = rng.integers(0, 2**31 - 1, trainings).tolist()
    model = models.LaneMLP(num_classes=num_classes, hidden=tuple(hidden), dtype=dtype)
    network = of_shared_rows(tabular_in_lanes(model))
    steps = -(-size // batch_size) * epochs
    method = method_of(loss, [learning_rate], network, steps)
    if len(method.settings) != 1:
        raise ValueError(
            f"loss must have one setting, got {len(method.settings)}; set its keywords by "
            "functools.partial."
        )
    index = np.broadcast_to(np.arange(size, dtype=np.int32), rows.shape)
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    runs = train.in_lanes(
        make_trainer(
            method,
            train.staircase_schedule(steps),
            functools.partial(_predictions, network),
            weight_decay=weight_decay,
        ),
        stack_settings(method.settings),
        {
            "train": {"row": rows, "label": labels[rows], "index": index},
            "params": initial_variables(model, jnp.zeros((x.shape[1], 1)), streams),
            "seed": np.array(streams),
        },
        shared={"known": {"x": np.concatenate([x, test_x]), "class_counts": np.float32(counts)}},
    )
    plan = data.epoch_plans(size, batch_size, streams)
    state = runs.state
    for epoch in range(epochs):
        state, _ = runs.run_steps(state, plan(epoch))
    correct = runs.measure(state)["predicted"][:, 0] == np.concatenate([labels, test_labels])
    in_subset = np.zeros((trainings, len(x)), bool)
    np.put_along_axis(in_subset, rows, True, 1)
    return SubsetTrainings(correct[:, : len(x)], correct[:, len(x) :], in_subset)


def _read_both(inputs: ArrayLike, test_inputs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as columns on the scale of the first."""
    inputs, test_inputs = np.asarray(inputs), np.asarray(test_inputs)
    if inputs.shape[1:] != test_inputs.shape[1:] or not len(test_inputs):
        raise ValueError(
            "test_inputs must be at least one row like those of inputs, "
            f"{inputs.shape[1:]}, got {test_inputs.shape}."
        )
    x = read_inputs(inputs)
    if inputs.ndim != 2:
        return x, read_inputs(test_inputs)
    return x, read_inputs(test_inputs, like=inputs)


def _predictions(network: Network, setting, data_set, state) -> dict[str, jax.Array]:
    _, stats = state.extra
    known = data_set["known"]
    everything = {"row": jnp.arange(len(known["x"]))}
    return {"predicted": network.scores(state.params, stats, known, everything).argmax(-1)}
