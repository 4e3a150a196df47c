"""The protocol of the LDR paper: which losses are compared, how they are trained and chosen."""

import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lnl_jax.comparison.catalogue import LOSSES, Loss, Normalization
from lnl_jax.comparison.methods import BASELINE, find_entry, robust_loss
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.runs import Method
from lnl_jax.comparison.statistics import grid
from lnl_jax.runner.arguments import check_batch_size

# The losses to which `temperatures` and `margin` belong, and all that are compared by default.
ADAPTED = ("ldr_kl", "aldr_kl")
COMPARED = ("generalized_cross_entropy", *ADAPTED)


class Protocol(NamedTuple):
    """How every loss is trained, and what validation chooses from.

    Attributes:
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decay: added to the gradient, for all parameters.
        temperatures: to choose from, for the losses of `ADAPTED`.
        qs: to choose from, for generalized_cross_entropy.
        margin: of the losses of `ADAPTED`, unless it is set on the loss.
    """

    epochs: int
    batch_size: int
    learning_rates: Sequence[float]
    weight_decay: float
    temperatures: Sequence[float]
    qs: Sequence[float]
    margin: float

    def total_steps(self, size: int) -> int:
        """Of a training on that many examples."""
        return -(-size // self.batch_size) * self.epochs


def make_methods(
    loss: Loss | None,
    normalize: Normalization | None,
    network: Network,
    protocol: Protocol,
    size: int,
    normalizations: Mapping[str, Normalization] = types.MappingProxyType({}),
) -> list[Method]:
    """Cross-entropy, always, and what it is compared with, with the settings to choose from.

    Args:
        loss: this one alone; None takes `COMPARED`.
        normalize: what the logits go through, but for cross-entropy; None takes each loss's own.
        network: what is trained.
        protocol: how.
        size: examples that are trained on.
        normalizations: in place of those of the catalogue, by the name of the loss.

    Returns:
        The methods, cross-entropy first.

    Raises:
        StudyError: for a batch of more than `size`, a loss that is not in the catalogue, or a
            setting that it refuses.
    """
    check_batch_size(protocol.batch_size, size)
    functions = {name: LOSSES[name] for name in COMPARED}
    if loss is not None:
        functions = {find_entry(loss)[0]: loss}
    functions = {BASELINE: LOSSES[BASELINE]} | {
        name: function for name, function in functions.items() if name != BASELINE
    }
    grids = dict.fromkeys(ADAPTED, grid(temperature=protocol.temperatures))
    grids |= {"generalized_cross_entropy": grid(q=protocol.qs)}
    return [
        robust_loss(
            function,
            protocol.learning_rates,
            network=network,
            total_steps=protocol.total_steps(size),
            grid=grids.get(name),
            normalize=None if name == BASELINE else normalize or normalizations.get(name),
            **({"margin": protocol.margin} if name in ADAPTED else {}),
        )
        for name, function in functions.items()
    ]
