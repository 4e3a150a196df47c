"""STORM as a method for noisy labels: the weights of the losses are learned along with the rest."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lnl_jax import reweighting
from lnl_jax.comparison.catalogue import cross_entropy
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.noisy_methods import NoisyMethod, each_rate
from lnl_jax.comparison.runs import BEFORE_ALL_STEPS, Method

# Passes over jittered inputs, and the features that they give.
PASSES, FEATURES = 3, 19


def storm(
    learning_rates: Sequence[float],
    *,
    network: Network,
    inner_rate: float = 0.1,
    rescaler_rates: Sequence[float] = (1.0, 10.0),
) -> NoisyMethod:
    """STORM: a rescaler learns, from statistics of the losses, the weight of each example.

    Several passes over jittered inputs give an example's statistics
    (`reweighting.storm_features`); a linear map of them for each given class gives its weight. The
    map follows the gradient of the rescaled loss of half a batch after a step on the rescaled loss
    of the other half; the network follows the weighted losses. Where the original has passes with
    dropout and groups of its own, here inputs are jittered, and a group is a given class with
    agreement or without.

    Args:
        learning_rates: to choose from.
        network: of rows of numbers.
        inner_rate: of the step that the rescaler looks through.
        rescaler_rates: the rescaler's learning rate over the network's, to choose from.

    Returns:
        The method.
    """
    classes = network.num_classes

    def features_of(params, stats, known, batch, key):
        found, _ = network.training_scores(params, stats, known, batch, key, PASSES)
        found = jnp.moveaxis(found, network.class_axis, -1)
        losses = jax.vmap(cross_entropy, (0, None))(found, batch["label"])
        agree = reweighting.majority_agreement(found.argmax(-1), batch["label"])
        groups = 2 * batch["label"] + agree
        # Padding is no member of any of them.
        groups = jnp.where(batch.get("mask", True), groups, 2 * classes)
        confidences = jax.nn.softmax(found, -1).max(-1)
        features = reweighting.storm_features(
            losses, confidences, groups, num_groups=2 * classes + 1
        )
        features = jnp.concatenate([features, agree[:, None].astype(features.dtype)], 1)
        spread = features.std(0, keepdims=True)
        centred = features - features.mean(0, keepdims=True)
        return jax.lax.stop_gradient(centred / jnp.where(spread > 1e-6, spread, 1))

    def weights_of(rescaler, features, labels):
        chosen = jax.tree.map(lambda array: array[labels], rescaler)
        return jax.nn.sigmoid((chosen["kernel"] * features).sum(-1) + chosen["bias"])

    def loss_fn(setting, known, params, extra, rows, batch, key):
        step, stats = extra
        labels, mask = batch["label"], batch["mask"]
        jitter, plain = jax.random.split(key)
        features = features_of(params["network"], stats, known, batch, jitter)

        def losses_of(theta):
            found, _ = network.training_scores(theta, stats, known, batch, plain, None)
            return cross_entropy(found, labels, axis=network.class_axis)

        def rescaled(part):
            def loss(rescaler, theta):
                values = losses_of(theta)
                weights = weights_of(rescaler, features, labels)
                kept = reweighting.rescale_preserving_sum(values, weights, where=part)
                return kept.sum() / jnp.maximum(part.sum(), 1)

            return loss

        first = jnp.arange(len(labels)) % 2 == 0
        _, gradient = reweighting.meta_gradient(
            rescaled(mask & first), rescaled(mask & ~first), learning_rate=inner_rate
        )(params["rescaler"], jax.lax.stop_gradient(params["network"]))
        weights = weights_of(jax.lax.stop_gradient(params["rescaler"]), features, labels)
        # Its gradient in the rescaler is the meta-gradient; its value is nothing.
        products = jax.tree.map(
            lambda g, phi: (g * (phi - jax.lax.stop_gradient(phi))).sum(),
            jax.lax.stop_gradient(gradient),
            params["rescaler"],
        )
        pull = setting["rescaler_rate"] * sum(jax.tree.leaves(products))
        values = 2 * weights * losses_of(params["network"]) + pull
        return values, ((step + 1, stats), rows, {})

    def prepare(variables):
        data_sets = len(jax.tree.leaves(variables)[0])
        rescaler = {
            "kernel": jnp.zeros((data_sets, classes, FEATURES)),
            "bias": jnp.zeros((data_sets, classes)),
        }
        return {"network": variables, "rescaler": rescaler}

    def suspicion(setting, data_set, state):
        training, params = data_set["train"], state.params
        key = jax.random.fold_in(state.key, BEFORE_ALL_STEPS)
        known = data_set["known"]
        features = features_of(params["network"], state.extra[1], known, training, key)
        return -weights_of(params["rescaler"], features, training["label"])

    def scores(params, stats, known, part):
        return network.scores(params["network"], stats, known, part)

    settings = each_rate(learning_rates, rescaler_rate=rescaler_rates)
    method = Method("storm", loss_fn, settings, (jnp.zeros((), jnp.int32), network.stats))
    return NoisyMethod(method, network._replace(scores=scores), suspicion, prepare)
