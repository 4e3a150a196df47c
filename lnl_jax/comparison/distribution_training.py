"""What a classifier gains from each kind of soft label for the same examples."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from lnl_jax import data, models, train
from lnl_jax._host_arguments import check_integer, check_number, check_seed
from lnl_jax.comparison.cross_validation import read_inputs
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.runs import Method, make_trainer, stack_settings
from lnl_jax.data.splits import stack

# Half precision rounds the sum of a row by less.
TOLERANCE = 1e-3


def train_on_distributions(
    inputs: ArrayLike,
    distributions: Mapping[str, ArrayLike],
    tests: Mapping[str, ArrayLike],
    *,
    hidden: Sequence[int] = (64,),
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 0.05,
    weight_decay: float = 5e-4,
    dtype: Any = None,
) -> Generator[dict[str, Any], None, dict[str, np.ndarray]]:
    r"""Trains a network on each kind of label distribution, with several seeds, all in one program.

    .. math::
        -\frac{1}{B} \sum_{i, k} p_{ik} \log \text{softmax}(f(x_i))_k

    Networks of one seed share their initialisation and order, so that kinds are paired. SGD with
    momentum; the rate falls tenfold after half and after three quarters of the steps. Use it as
    ``logits = yield from train_on_distributions(...)`` in a study, or exhaust it.

    Args:
        inputs: features ``[N, D]``, brought to mean 0 and deviation 1.
        distributions: by name the probabilities of the classes, ``[N, K]``.
        tests: by name other features, ``[J, D]``, scaled as the inputs are.
        hidden: widths of the hidden layers; none is a linear network.
        seeds: of initialisations and orders.
        epochs: passes over the examples.
        batch_size: examples per step.
        learning_rate: at the start.
        weight_decay: added to the gradient.
        dtype: in which the network computes, such as ``jnp.bfloat16``; parameters and scores are
            float32 all the same. None means that of the inputs.

    Yields:
        A row per epoch, with the mean loss.

    Returns:
        The logits of each test set, float32, ``[kinds, seeds, J, K]``.

    Raises:
        ValueError: for inputs that are not finite or do not fit each other, distributions of other
            examples or classes or that are none, or numbers out of range; names them.

    Example:
        >>> label = np.arange(40) % 2
        >>> x = label[:, None] + np.random.default_rng(0).normal(size=(40, 3)) / 4
        >>> kinds = {"hard": np.eye(2)[label], "smooth": 0.1 + 0.8 * np.eye(2)[label]}
        >>> from lnl_jax.comparison import finish
        >>> training = train_on_distributions(x, kinds, {"test": x}, seeds=[0], epochs=20)
        >>> finish(training)["test"].shape
        (2, 1, 40, 2)

    References:
        Wright and Augenstein, "Aggregating Soft Labels from Crowd Annotations Improves Uncertainty
        Estimation Under Distribution Shift" (2022), Section 4: training on soft labels.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        check_integer(name, value)
    check_number("learning_rate", learning_rate, above=0)
    check_number("weight_decay", weight_decay, at_least=0)
    check_seed("seeds", list(seeds))
    known = {"train": read_inputs(inputs)}
    size, columns = known["train"].shape
    for name, values in tests.items():
        if np.shape(values)[1:] != (columns,):
            raise ValueError(
                f"tests must have the {columns} columns of inputs, got the shape "
                f"{np.shape(values)} of {name}."
            )
        known[f"test {name}"] = read_inputs(values, like=inputs)
    targets = [np.float32(values) for values in distributions.values()]
    shapes = {target.shape for target in targets}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or shape[0] != size:
        raise ValueError(
            f"distributions must be at least one, all of one shape [{size}, K]; got "
            f"{', '.join(str(target.shape) for target in targets) or 'none'}."
        )
    for name, target in zip(distributions, targets, strict=True):
        # Of NaN neither holds.
        if not ((target >= 0).all() and np.abs(target.sum(1) - 1).max() <= TOLERANCE):
            raise ValueError(
                f"distributions must be at least 0 and sum to 1 in each row, those of {name} do "
                "not: divide by their sums."
            )
    batch_size = min(batch_size, size)
    model = models.LaneMLP(num_classes=shape[1], hidden=tuple(hidden), dtype=dtype)

    def loss_fn(setting, known, params, extra, rows, batch, key):
        logits = model.apply(params, known["train"][batch["index"]].T).T
        return optax.softmax_cross_entropy(logits, batch["label"]), (extra, rows, {})

    def test_logits(setting, data_set, state):
        of_tests = {name: data_set["known"][f"test {name}"] for name in tests}
        return {name: model.apply(state.params, x.T).T for name, x in of_tests.items()}

    index = np.arange(size, dtype=np.int32)
    streams = [seed for _ in targets for seed in seeds]
    parts = [{"train": {"label": target, "index": index}} for target in targets for _ in seeds]
    method = Method("soft cross-entropy", loss_fn, [{"learning_rate": learning_rate}])
    schedule = train.staircase_schedule(-(-size // batch_size) * epochs)
    params = initial_variables(model, jnp.zeros((columns, 1)), streams)
    runs = train.in_lanes(
        make_trainer(method, schedule, test_logits, weight_decay=weight_decay),
        stack_settings(method.settings),
        stack(parts) | {"params": params, "seed": np.array(streams)},
        shared={"known": known},
    )
    plan, state = data.epoch_plans(size, batch_size, streams), runs.state
    for epoch in range(1, epochs + 1):
        state, measured = runs.run_steps(state, plan(epoch - 1))
        yield {"epoch": epoch, "loss": float(np.mean(measured["loss"]))}
    found = runs.measure(state)
    return {
        name: found[name].reshape(len(targets), len(seeds), *found[name].shape[2:])
        for name in tests
    }
