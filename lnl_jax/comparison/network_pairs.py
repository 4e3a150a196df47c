"""Methods for noisy labels that train two networks: co-teaching, and the core of DivideMix."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import label_models, reweighting
from lnl_jax.comparison.catalogue import cross_entropy
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.noisy_methods import NoisyMethod, each_rate, surprise
from lnl_jax.comparison.runs import Method

PyTree = Any


def co_teaching(
    learning_rates: Sequence[float],
    *,
    network: Network,
    total_steps: int,
    forget_rates: Sequence[float] = (0.2, 0.4, 0.6),
    ramp: float = 0.2,
    name: str = "co_teaching",
) -> NoisyMethod:
    """Two networks that choose examples of small loss for each other.

    Args:
        learning_rates: to choose from.
        network: of one of them.
        total_steps: of a training.
        forget_rates: to choose from.
        ramp: the share of the training in which the rate grows from 0.
        name: in rows and tables.

    Returns:
        The method; scores are the mean of both networks'.
    """
    pair = paired(network)

    def loss_fn(setting, known, params, extra, rows, batch, key):
        step, stats = extra
        scores, stats = pair.training_scores(params, stats, known, batch, key, None)
        values = jax.vmap(functools.partial(cross_entropy, axis=network.class_axis), (0, None))(
            scores, batch["label"]
        )
        rate = setting["forget_rate"] * jnp.minimum(step / (ramp * total_steps), 1)
        weights = reweighting.co_teaching_weights(values, forget_rate=rate, where=batch["mask"])
        return (weights * values).sum(0) / (1 - rate), ((step + 1, stats), rows, {})

    settings = each_rate(learning_rates, forget_rate=forget_rates)
    method = Method(name, loss_fn, settings, (jnp.zeros((), jnp.int32), pair.stats))
    return NoisyMethod(method, pair, functools.partial(surprise, pair), as_pairs)


def divide_mix(
    learning_rates: Sequence[float],
    *,
    network: Network,
    total_steps: int,
    num_examples: int,
    steps_per_epoch: int,
    warmup: float = 0.2,
    unlabelled_weights: Sequence[float] = (0.0, 25.0),
    sharpening: float = 0.5,
) -> NoisyMethod:
    """The core of DivideMix: what one network's loss mixture believes, the other one learns.

    After a warm-up with cross-entropy, a mixture of two normals on the losses of each network gives
    the probability that a label is right, once an epoch (`label_models.loss_mixture`). The other
    network takes what is believed with the label refined by its own prediction, and the rest with
    the guess of both, sharpened; cross-entropy on the former, squared error on the latter, and a
    pull of the mean prediction to the uniform one. Of the original, the mixed examples of MixMatch
    and the second view are left out.

    Args:
        learning_rates: to choose from.
        network: of one of them.
        total_steps: of a training.
        num_examples: of the training set.
        steps_per_epoch: in which the weight of the squared error grows, over 16 epochs.
        warmup: the share of the training with cross-entropy.
        unlabelled_weights: of the squared error, to choose from.
        sharpening: the temperature of the guesses.

    Returns:
        The method; scores are the mean of both networks'.
    """
    pair = paired(network)
    start = jnp.full((2, num_examples), 0.5)
    first = int(warmup * total_steps)

    def loss_fn(setting, known, params, extra, rows, batch, key):
        step, (stats, clean) = extra
        scores, stats = pair.training_scores(params, stats, known, batch, key, None)
        scores = jnp.moveaxis(scores, network.class_axis, -1)
        guess = jax.lax.stop_gradient(jax.nn.softmax(scores, -1))
        # Each network divides for the other.
        believed = clean[::-1, batch["position"]][..., None]
        y = jax.nn.one_hot(batch["label"], scores.shape[-1])[None]
        refined = _sharpen(believed * y + (1 - believed) * guess, sharpening)
        guessed = _sharpen(jnp.broadcast_to(guess.mean(0, keepdims=True), guess.shape), sharpening)
        log_p = jax.nn.log_softmax(scores, -1)
        labelled = -(refined * log_p).sum(-1)
        unlabelled = ((jnp.exp(log_p) - guessed) ** 2).mean(-1)
        ramp = jnp.clip((step - first) / (16 * steps_per_epoch), 0, 1)
        weight = setting["unlabelled_weight"] * ramp
        values = jnp.where(believed[..., 0] > 0.5, labelled, weight * unlabelled)
        mask = batch["mask"][None, :, None]
        mean = (jnp.exp(log_p) * mask).sum(1) / jnp.maximum(mask.sum(1), 1)
        penalty = -jnp.log(scores.shape[-1] * jnp.maximum(mean, 1e-8)).mean(-1)
        values = values + penalty[:, None]
        plain = -jnp.take_along_axis(log_p, batch["label"][None, :, None], -1)[..., 0]
        values = jnp.where(step < first, plain, values).sum(0)
        return values, ((step + 1, (stats, clean)), rows, {})

    @jax.jit
    def surprises(data_set, state):
        _, (stats, _) = state.extra
        training = data_set["train"]
        scores = [
            network.scores(*one, data_set["known"], training) for one in _each(state.params, stats)
        ]
        return jnp.stack([cross_entropy(each, training["label"]) for each in scores])

    def refresh(data_set, state):
        step, (stats, clean) = state.extra
        found = np.asarray(surprises(data_set, state))
        # A network that diverged believes what it believed before.
        if np.isfinite(found).all():
            clean = np.stack([label_models.loss_mixture(losses).clean for losses in found])
        return state._replace(extra=(step, (stats, jnp.asarray(clean, jnp.float32))))

    def suspicion(setting, data_set, state):
        _, (_, clean) = state.extra
        return 1 - clean.mean(0)

    def scores(params, stats, known, part):
        return pair.scores(params, stats[0], known, part)

    settings = each_rate(learning_rates, unlabelled_weight=unlabelled_weights)
    extra = (jnp.zeros((), jnp.int32), (pair.stats, start))
    method = Method("divide_mix", loss_fn, settings, extra)
    return NoisyMethod(method, pair._replace(scores=scores), suspicion, as_pairs, refresh)


def paired(network: Network) -> Network:
    """Two networks of one kind as one: parameters and scores have them on the first axis.

    Args:
        network: one of them.

    Returns:
        The `Network`: training scores are ``[2, B, K]``, at any other time the mean of both.
    """

    def training_scores(params, stats, known, batch, key, views):
        keys = jax.random.split(key)
        found = [
            network.training_scores(params, stats, known, batch, keys[at], views)
            for at, (params, stats) in enumerate(_each(params, stats))
        ]
        return jax.tree.map(lambda *pair: jnp.stack(pair), *found)

    def scores(params, stats, known, part):
        both = [network.scores(*one, known, part) for one in _each(params, stats)]
        return jnp.stack(both).mean(0)

    stats = jax.tree.map(lambda array: jnp.stack([array, array]), network.stats)
    return Network(network.num_classes, stats, training_scores, scores, network.class_axis)


def as_pairs(variables: PyTree) -> PyTree:
    """A second network for each data set: that of the next one.

    Args:
        variables: arrays ``[D, ...]``, D at least 2.

    Returns:
        ``[D, 2, ...]``.

    Raises:
        ValueError: for one data set alone, whose networks would be the same one twice.
    """
    if len(jax.tree.leaves(variables)[0]) < 2:
        raise ValueError(
            "variables must be of at least two data sets, as each takes the next one's network for "
            "its second; got one."
        )
    return jax.tree.map(lambda array: jnp.stack([array, jnp.roll(array, -1, 0)], 1), variables)


def _each(params: PyTree, stats: PyTree) -> list[tuple[PyTree, PyTree]]:
    """Parameters and statistics of one network, then of the other.

    One after the other rather than vmapped: convolutions would become grouped ones, which a CPU
    does not like.
    """
    return [jax.tree.map(lambda array, at=at: array[at], (params, stats)) for at in range(2)]


def _sharpen(distributions: jax.Array, temperature: float) -> jax.Array:
    powers = jnp.maximum(distributions, 1e-12) ** (1 / temperature)
    return powers / powers.sum(-1, keepdims=True)
