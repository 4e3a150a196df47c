"""Methods for noisy labels by their names, with the settings that validation chooses from."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from lnl_jax import models
from lnl_jax.comparison.catalogue import tied
from lnl_jax.comparison.learned_weights import storm
from lnl_jax.comparison.network_pairs import co_teaching, divide_mix
from lnl_jax.comparison.networks import tabular
from lnl_jax.comparison.noisy_methods import NoisyMethod, one_loss
from lnl_jax.comparison.selected_features import nested_dropout
from lnl_jax.runner.arguments import NotNegative, Positive, PositiveShare, Share, refused

# Losses of the catalogue; what they keep of an example is said in docs/noisy_label_methods.md.
OF_ONE_LOSS = ("cross_entropy", "generalized_cross_entropy", "ldr_kl", "aldr_kl")
OF_ONE_LOSS += ("elr_step", "sop_step")
MORE = ("co_teaching", "nested_dropout", "nested_dropout_co_teaching", "divide_mix", "storm")


class Grids(NamedTuple):
    """What validation chooses from, for each method.

    Attributes:
        qs: of generalised cross-entropy.
        temperatures: of LDR-KL and ALDR-KL.
        elr_momenta: of ELR's targets.
        elr_weights: of ELR's term, one for each momentum.
        sop_rates_u: of SOP's noise on the given class.
        sop_rates_v: on the others, one for each of the former.
        forget_rates: of co-teaching.
        deviations: of how many features nested dropout keeps.
        unlabelled_weights: of DivideMix's squared error.
        rescaler_rates: of STORM's rescaler.
    """

    qs: tuple[PositiveShare, ...] = (0.05, 0.7, 0.95)
    temperatures: tuple[Positive, ...] = (0.1, 1.0, 10.0)
    elr_momenta: tuple[Share, ...] = (0.7, 0.9, 0.9)
    elr_weights: tuple[NotNegative, ...] = (3.0, 1.0, 7.0)
    sop_rates_u: tuple[NotNegative, ...] = (0.008, 0.08, 0.0008)
    sop_rates_v: tuple[NotNegative, ...] = (0.08, 0.08, 0.8)
    forget_rates: tuple[Share, ...] = (0.2, 0.4, 0.6)
    deviations: tuple[Positive, ...] = (5.0, 10.0, 20.0)
    unlabelled_weights: tuple[NotNegative, ...] = (0.0, 25.0)
    rescaler_rates: tuple[NotNegative, ...] = (1.0, 10.0)

    def of_losses(self) -> dict[str, Sequence[dict]]:
        """By the name of a loss, its settings; of cross-entropy one without any."""
        warmed = tied(temperature=self.temperatures)
        elr = {"momentum": self.elr_momenta, "weight": self.elr_weights}
        sop = {"rate_u": self.sop_rates_u, "rate_v": self.sop_rates_v}
        with refused("grids"):
            tied_settings = (tied(q=self.qs), warmed, warmed, tied(**elr), tied(**sop))
        return dict(zip(OF_ONE_LOSS, (({},), *tied_settings), strict=True))


def noisy_methods(
    names: Sequence[str],
    learning_rates: Sequence[float],
    *,
    model: Any,
    ordered: models.NestedDropout,
    grids: Grids,
    num_examples: int,
    steps_per_epoch: int,
    epochs: int,
) -> list[tuple[NoisyMethod, Any]]:
    """The methods, each with the module whose variables it starts from.

    Args:
        names: of `OF_ONE_LOSS` and `MORE`.
        learning_rates: to choose from.
        model: of ``part["x"]``, rows of numbers or images.
        ordered: its like with features in an order, for nested dropout.
        grids: what else is chosen.
        num_examples: of the training set.
        steps_per_epoch: of a training.
        epochs: of a training.

    Returns:
        Pairs of method and module.

    Raises:
        StudyError: for settings that a method refuses.
    """
    network, total_steps = tabular(model), steps_per_epoch * epochs
    own = {"network": network, "total_steps": total_steps}
    make = {
        name: functools.partial(one_loss, name, grid=grid, **own)
        for name, grid in grids.of_losses().items()
    }
    make["co_teaching"] = functools.partial(co_teaching, forget_rates=grids.forget_rates, **own)
    make["divide_mix"] = functools.partial(
        divide_mix,
        num_examples=num_examples,
        steps_per_epoch=steps_per_epoch,
        unlabelled_weights=grids.unlabelled_weights,
        **own,
    )
    make["storm"] = functools.partial(storm, network=network, rescaler_rates=grids.rescaler_rates)
    nested = functools.partial(
        nested_dropout, model=ordered, total_steps=total_steps, deviations=grids.deviations
    )
    make["nested_dropout"] = nested
    make["nested_dropout_co_teaching"] = functools.partial(
        nested, with_co_teaching=True, forget_rates=grids.forget_rates
    )
    return [
        (make[name](learning_rates), ordered if name.startswith("nested") else model)
        for name in names
    ]
