"""Every public function once, with its definition in float64 NumPy; test_contract.py tests them.

A definition takes one anchor: its similarity to the positive, those to its negatives, its
temperature, its row; and is written from the paper, not from the implementation.
"""

from typing import NamedTuple

import numpy as np

from lnl_jax import contrastive
from lnl_jax.contrastive import ContrastiveRows

RHO, GAMMA, BIAS, STEP, MOMENTUM, RANGE, CLIP = 0.3, 0.8, -1.0, 0.05, 0.6, (0.15, 0.8), 0.4


class Anchor(NamedTuple):
    """What a definition is of."""

    positive: float
    negatives: np.ndarray
    temperature: float
    log_u: float
    velocity: float


def info_nce(one):
    terms = np.exp(np.append(one.negatives, one.positive) / one.temperature)
    return -np.log(terms[-1] / terms.sum())


def decoupled_contrastive(one):
    return np.log(np.exp((one.negatives - one.positive) / one.temperature).sum())


def sigmoid_contrastive(one):
    signed = np.append(one.negatives / one.temperature + BIAS, -one.positive / one.temperature)
    signed[-1] -= BIAS
    return np.log(1 + np.exp(signed)).sum()


def contrastive_statistics(one):
    terms = np.exp(one.negatives / one.temperature)
    mean = terms @ one.negatives / terms.sum()
    logs = np.log(terms.sum()), mean, np.log((terms**2).sum())
    return *logs, len(terms), one.positive, one.temperature


def similarity_statistics(one):
    return contrastive_statistics(one)


def average(one):
    """Terms of the inner mean, and the new u."""
    terms = np.exp((one.negatives - one.positive) / one.temperature)
    before = terms.mean() if one.log_u == -np.inf else np.exp(one.log_u)
    return terms, (1 - GAMMA) * before + GAMMA * terms.mean()


def sogclr(one):
    terms, u = average(one)
    weights = terms / u / len(terms)
    p = terms / terms.sum()
    seen = {
        "objective": one.temperature * np.log(u),
        "kl": p @ np.log(p * len(p)),
        "effective_sample_size": 1 / (p @ p),
        "temperature_gradient": np.log(u)
        - weights @ (one.negatives - one.positive) / one.temperature,
    }
    return weights @ (one.negatives - one.positive), np.log(u), seen


def isogclr(one):
    value, log_u, seen = sogclr(one)
    q = seen.pop("temperature_gradient") + RHO
    rows = temperature_step(one._replace(log_u=log_u), np.clip(q, -CLIP, CLIP))
    seen["objective"] += one.temperature * RHO
    at_bounds = float(rows[0] in RANGE)
    seen |= {"q": q, "temperature": one.temperature, "at_bounds": at_bounds}
    return value, rows, seen


def temperature_step(one, q=0.7):
    velocity = (1 - MOMENTUM) * one.velocity + MOMENTUM * q
    return ContrastiveRows(np.clip(one.temperature - STEP * velocity, *RANGE), one.log_u, velocity)


def fastclip(one):
    value, log_u, seen = sogclr(one)
    seen["objective"] += one.temperature * RHO
    seen["temperature_gradient"] += RHO
    return seen["objective"], log_u, seen


def inner(offset, own, divisor):
    """An estimator: log of the inner mean, what similarities are compared with, the divisor."""

    def definition(one):
        less, n = offset * one.positive, len(one.negatives) + divisor
        total = own + np.exp((one.negatives - less) / one.temperature).sum()
        return np.log(total / n), less, n

    return definition


def restart_example(one):
    return 2.0 if one.log_u == -np.inf else one.log_u


def unchanged(one):
    """With some examples that were visited."""
    return one.log_u


# By name, of `contrastive.NAME`; those `_from_statistics` are of what the others are.
CASES = {
    "info_nce": info_nce,
    "info_nce_from_statistics": info_nce,
    "decoupled_contrastive": decoupled_contrastive,
    "sigmoid_contrastive": sigmoid_contrastive,
    "contrastive_statistics": contrastive_statistics,
    "similarity_statistics": similarity_statistics,
    "sogclr": sogclr,
    "sogclr_from_statistics": sogclr,
    "isogclr": isogclr,
    "isogclr_from_statistics": isogclr,
    "fastclip": fastclip,
    "temperature_step": temperature_step,
    "difference_to_positive": inner(1, 0, 0),
    "raw_similarity": inner(0, 0, 0),
    "difference_with_diagonal": inner(1, 1, 0),
    "difference_with_positive": inner(1, 1, 1),
    "restart_example": restart_example,
    "restart_batch": unchanged,
    "start_from_zero": unchanged,
}
ELSEWHERE = {
    "ContrastiveRows": "a type",
    "ContrastiveStatistics": "a type",
    "InnerEstimate": "a type",
    "Temperatures": "a type",
    "cached_contrastive_grads": "against the gradient at once: test_contrastive_devices.py",
    "cosine_gamma": "a schedule, which has no anchors: here below and test_special_points.py",
    "isogclr_table": "a table: test_tables.py",
    "ring_statistics": "needs devices: test_contrastive_devices.py",
    "scent_gamma": "a rate of a row, which has no anchors: here below and test_contrastive.py",
    "sogclr_table": "a table: test_tables.py",
}


def cosine_gamma(epoch, minimum, decay_epochs):
    done = min(epoch / decay_epochs, 1)
    return minimum + (1 - minimum) * (1 + np.cos(np.pi * done)) / 2


def scent_gamma(log_u, log_step):
    return 1.0 if log_u == -np.inf else 1 / (1 + np.exp(-log_step - log_u))


def results(queries, keys, rows, given, size):
    """What the functions make of a batch, by name."""
    given = given | {"block_size": size}
    tau = rows.temperature
    statistics = contrastive.contrastive_statistics(queries, keys, temperature=tau, **given)
    learnt = contrastive.Temperatures(RHO, STEP, MOMENTUM, RANGE, CLIP)
    of_rows = {"gamma": GAMMA, "temperatures": learnt}
    found = {
        "info_nce": contrastive.info_nce(queries, keys, temperature=tau, **given),
        "info_nce_from_statistics": contrastive.info_nce_from_statistics(statistics),
        "decoupled_contrastive": contrastive.decoupled_contrastive(
            queries, keys, temperature=tau, **given
        ),
        "sigmoid_contrastive": contrastive.sigmoid_contrastive(
            queries, keys, temperature=tau, bias=BIAS, **given
        ),
        "contrastive_statistics": statistics,
        "sogclr": contrastive.sogclr(
            queries, keys, rows.log_u, temperature=tau, gamma=GAMMA, **given
        ),
        "sogclr_from_statistics": contrastive.sogclr_from_statistics(
            statistics, rows.log_u, gamma=GAMMA
        ),
        "isogclr": contrastive.isogclr(queries, keys, rows, **of_rows, **given),
        "isogclr_from_statistics": contrastive.isogclr_from_statistics(statistics, rows, **of_rows),
        "temperature_step": contrastive.temperature_step(rows, 0.7 + 0 * tau, learnt),
    }
    for name in CASES:
        if name.startswith(("difference_", "raw_")):
            found[name] = getattr(contrastive, name)(statistics)
        if name.startswith(("restart_", "start_")):
            found[name] = getattr(contrastive, name)(rows.log_u, 2.0 + 0 * tau)
    return found
