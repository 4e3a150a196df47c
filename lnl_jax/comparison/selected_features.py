"""Nested dropout as a method for noisy labels: the first features must do."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lnl_jax import models
from lnl_jax.comparison.catalogue import cross_entropy
from lnl_jax.comparison.network_pairs import co_teaching
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.noisy_methods import NoisyMethod, each_rate, surprise
from lnl_jax.comparison.runs import Method


def nested_dropout(
    learning_rates: Sequence[float],
    *,
    model: models.NestedDropout,
    total_steps: int,
    deviations: Sequence[float] = (5.0, 10.0, 20.0),
    with_co_teaching: bool = False,
    forget_rates: Sequence[float] = (0.2, 0.4, 0.6),
) -> NoisyMethod:
    """Features in an order of importance: in every step all beyond a random one are left out.

    The number of features that counts is the best on validation labels, ``known["validation"]``.

    Args:
        learning_rates: to choose from.
        model: of ``part["x"]``, rows of numbers or images.
        total_steps: of a training.
        deviations: of the law of how many are kept, to choose from.
        with_co_teaching: trains two of them that choose examples for each other, with the middle
            one of the deviations.
        forget_rates: of them, to choose from; nothing without.

    Returns:
        The method.
    """
    features = model.encoder.num_classes
    laws = {
        deviation: models.prefix_probabilities(features, deviation=deviation)
        for deviation in deviations
    }

    def training_scores(params, stats, known, batch, key, views, law):
        del known, views
        size = 1 + jax.random.choice(key, features, p=law)
        return model.apply(params, batch["x"], size=size), stats

    def scores(params, stats, known, part):
        del stats
        validation = known["validation"]
        swept = model.apply(params, validation["x"], method="prefix_scores")
        hits = (swept.argmax(-1) == validation["label"][None]).mean(-1)
        size = (hits - 1e-5 * jnp.arange(1, features + 1)).argmax() + 1
        return model.apply(params, part["x"], size=size)

    def with_law(law):
        return Network(
            model.num_classes, (), functools.partial(training_scores, law=jnp.asarray(law)), scores
        )

    if with_co_teaching:
        network = with_law(list(laws.values())[len(laws) // 2])
        name = "nested_dropout_co_teaching"
        return co_teaching(
            learning_rates,
            network=network,
            total_steps=total_steps,
            forget_rates=forget_rates,
            name=name,
        )

    def loss_fn(setting, known, params, extra, rows, batch, key):
        # A traced deviation finds its law among those that were made on the host.
        chosen = (jnp.float32(deviations) == setting["deviation"]).argmax()
        law = jnp.float32(list(laws.values()))[chosen]
        found, stats = training_scores(params, extra[1], known, batch, key, None, law)
        return cross_entropy(found, batch["label"]), ((extra[0] + 1, stats), rows, {})

    network = with_law(laws[deviations[0]])
    settings = each_rate(learning_rates, deviation=deviations)
    method = Method("nested_dropout", loss_fn, settings, (jnp.zeros((), jnp.int32), ()))
    return NoisyMethod(method, network, functools.partial(surprise, network))
