"""Students that learn from any labels: their objectives, and one step for all of them."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax.distill.labels._objectives import distillation_kl, distillation_mse
from lnl_jax.distill.labels._sources import LabelSource, labels_ahead
from lnl_jax.distill.networks import call_network, initial_variables, scorer
from lnl_jax.distill.networks._functions import Variables
from lnl_jax.distill.projectors._projector import centered
from lnl_jax.distill.training import initial_state, step_with, train_in_turn

WEIGHT_DECAY = 0.01


class Objective(NamedTuple):
    """By what a student follows its labels: a weighted sum, so that one program serves all.

    Attributes:
        ce: weight of the cross-entropy with the mixed classes.
        kl: weight of the divergence from the labels.
        mse: weight of the squared error to the labels, centred.
        temperature: of the divergence, which is multiplied by its square so that the gradient has
            the size of that at temperature 1.
    """

    ce: float = 0.0
    kl: float = 0.0
    mse: float = 0.0
    temperature: float = 1.0


HARD = Objective(ce=1.0)


def objectives(*, temperature: float, ce_weight: float) -> dict[str, Objective]:
    """The usual objectives by name.

    Args:
        temperature: of the divergence.
        ce_weight: of the classes beside squared errors.

    Returns:
        `hard`, classes alone; `kl`, the divergence; `mse`, squared errors and a little of the
        classes.
    """
    return {
        "hard": HARD,
        "kl": Objective(kl=1.0, temperature=temperature),
        "mse": Objective(mse=1.0, ce=ce_weight),
    }


@functools.lru_cache(maxsize=16)
def student_loss(model: Any) -> Callable:
    """The loss of a student's step.

    Args:
        model: a flax module.

    Returns:
        A loss for `step_with` on batches with `images`, `mixed` and `targets`; its constants are
        the `Objective`.
    """

    def loss(objective, params, extra, rows, batch, key):
        logits, extra = call_network(model, params, extra, batch["images"], train=True)
        targets, temperature = batch["targets"], objective.temperature
        divergence = distillation_kl(logits, targets, temperature=temperature)
        squared = distillation_mse(logits, centered(targets), batch["mixed"], ce_weight=0.0)
        hard = optax.softmax_cross_entropy(logits, batch["mixed"])
        total = objective.kl * temperature**2 * divergence
        total += objective.mse * squared + objective.ce * hard
        return total, (extra, rows, {})

    return loss


def train_students(
    model: Any,
    keys: Sequence[Array],
    batches: Iterable[Mapping[str, Any]],
    labels: LabelSource | None,
    objective: Objective,
    *,
    image_shape: tuple[int, ...],
    learning_rates: Sequence[float],
    keep: Sequence[int],
) -> list[list[Variables]]:
    """Trains networks from scratch, all of which see the same batches at the same time.

    A source that makes labels online makes those of a batch once for all students, and is asked
    one batch ahead; on the host nothing waits for the device.

    Args:
        model: a flax module.
        keys: of the initialisation of each network.
        batches: dicts with `images` and `mixed`, one for each step, and what `labels` looks at.
        labels: of each batch; None where the objective weighs the mixed classes alone.
        objective: how the networks follow their labels.
        image_shape: height, width and channels.
        learning_rates: the first, of each network.
        keep: rising numbers of steps after which to keep the variables; the last one is the length
            of the training.

    Returns:
        For each number of steps the variables of all networks, of NumPy.

    Example:
        >>> from lnl_jax import models
        >>> batch = {"images": np.zeros((4, 8, 8, 1)), "mixed": np.full((4, 2), 0.5)}
        >>> ((student,),) = train_students(
        ...     models.MLP(2, (3,)),
        ...     [jax.random.key(0)],
        ...     [batch, batch],
        ...     None,
        ...     HARD,
        ...     image_shape=(8, 8, 1),
        ...     learning_rates=[0.1],
        ...     keep=[2],
        ... )
        >>> params, extra = student
    """
    states = []
    for key, learning_rate in zip(keys, learning_rates, strict=True):
        params, extra = initial_variables(model, key, image_shape)
        states.append(
            initial_state(
                params,
                learning_rate=learning_rate,
                steps=keep[-1],
                weight_decay=WEIGHT_DECAY,
                extra=extra,
            )
        )
    weights = Objective(*(np.float32(value) for value in objective))
    labelled = _labelled(map(_on_device, batches), labels)
    kept = train_in_turn(step_with(student_loss(model), weights), states, labelled, keep=keep)
    return [[jax.device_get((state.params, state.extra)) for state in each] for each in kept]


def _labelled(
    batches: Iterable[Mapping[str, Any]], labels: LabelSource | None
) -> Iterator[dict[str, Any]]:
    """What a step sees of each batch; without labels the targets have no weight."""
    source = _no_targets if labels is None else labels
    for batch in labels_ahead(source, batches):
        yield {name: batch[name] for name in ("images", "mixed", "targets")}


def _on_device(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays; the number of the step stays where it is read."""
    return {
        name: jax.device_put(value) if np.ndim(value) else value for name, value in batch.items()
    }


def _no_targets(batch: Mapping[str, Any]) -> Array:
    return _zeros_like(batch["mixed"])


# Compiled: by themselves its zeros would come from the host at every step.
_zeros_like = jax.jit(jnp.zeros_like)


def student_keys(students: int, learning_rates: Sequence[float]) -> tuple[list[Array], list[float]]:
    """The initialisations of students that are the same for each learning rate.

    Args:
        students: of each learning rate.
        learning_rates: the first ones.

    Returns:
        Keys and learning rates for `train_students`, learning rate by learning rate.
    """
    runs = [(rate, one) for rate in learning_rates for one in range(students)]
    return [jax.random.key(1000 + one) for _, one in runs], [rate for rate, _ in runs]


def compare_students(
    model: Any,
    batches: Iterable[Mapping[str, Any]],
    labels: LabelSource | None,
    objective: Objective,
    measure: Callable[[list[Callable[[Any], Array]]], Sequence[Sequence[float]]],
    *,
    steps: int,
    image_shape: tuple[int, ...],
    students: int,
    learning_rates: Sequence[float],
) -> np.ndarray:
    """Trains students, for each learning rate as many, and measures all of them.

    Args:
        model: a flax module.
        batches: as of `train_students`.
        labels: likewise.
        objective: how the students follow their labels.
        measure: networks, images to scores each, to a line of percentages for each of them.
        steps: how many batches there are.
        image_shape: height, width and channels.
        students: of each learning rate.
        learning_rates: the first ones.

    Returns:
        What was measured, float32 ``[learning rates, students, ...]``.
    """
    keys, rates = student_keys(students, learning_rates)
    (ends,) = train_students(
        model,
        keys,
        batches,
        labels,
        objective,
        image_shape=image_shape,
        learning_rates=rates,
        keep=[steps],
    )
    measured = np.float32(measure([scorer(model, end) for end in ends]))
    return measured.reshape(len(learning_rates), students, *measured.shape[1:])


def chosen_by_validation(
    accuracies: np.ndarray, learning_rates: Sequence[float]
) -> dict[str, float | None]:
    """Test accuracy of students at the learning rate that validation prefers.

    Args:
        accuracies: in percent, ``[learning rates, students, 2]``, of validation and test.
        learning_rates: of the first axis.

    Returns:
        The mean `test %`, its deviation `std` over students (None of one), and the
        `learning rate`.

    Example:
        >>> accuracies = np.array([[[50.0, 9.0], [60.0, 9.0]], [[70.0, 40.0], [60.0, 44.0]]])
        >>> chosen_by_validation(accuracies, (0.1, 0.2))
        {'test %': 42.0, 'std': 2.83, 'learning rate': 0.2}
    """
    best = int(accuracies[..., 0].astype(np.float64).mean(1).argmax())
    tests = accuracies[best, :, 1].astype(np.float64)
    return {
        "test %": float(tests.mean()),
        "std": float(tests.std(ddof=1)) if len(tests) > 1 else None,
        "learning rate": learning_rates[best],
    }
