"""Contrastive trainings side by side: the losses as functions of views, runs over seeds and starts.

Every run has a table of temperatures, moving averages and velocities, a row per training example;
losses without such state hand their rows back as they were.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lnl_jax import contrastive, train
from lnl_jax.comparison.encoders import Embed
from lnl_jax.runner.arguments import (
    NotNegative,
    Positive,
    PositiveShare,
    StudyError,
    Threads,
    Whole,
    check_once,
    refused,
)

PyTree = Any
# (views of unit norm [2, B, d], rows, mask [B]) -> (losses [B], rows)
ContrastiveLoss = Callable[..., tuple[jax.Array, contrastive.ContrastiveRows]]


class LearntTemperatures(NamedTuple):
    """How iSogCLR learns temperatures: `contrastive.Temperatures` as flags.

    Attributes:
        rho: radius of the KL ball; larger means lower temperatures.
        step: of the temperatures' descent.
        momentum: weight of the newest gradient of a temperature.
        range: lowest and highest temperature.
        clip: bound of that gradient.
    """

    rho: NotNegative = 0.4
    step: NotNegative = 0.03
    momentum: PositiveShare = 0.5
    range: tuple[Positive, ...] = (0.05, 1.0)
    clip: Positive = 3.0


class Lars(NamedTuple):
    """The optimiser of images by themselves.

    Attributes:
        learning_rate: at its height.
        warmup_epochs: in which it rises; fewer than all epochs.
        weight_decay: of kernels.
    """

    learning_rate: Positive = 0.8
    warmup_epochs: Whole = 10
    weight_decay: NotNegative = 5e-4


class AdamW(NamedTuple):
    """The optimiser of images with captions.

    Attributes:
        learning_rate: at its height.
        warmup_steps: in which it rises, cut to a tenth of all steps.
        weight_decay: of all parameters.
    """

    learning_rate: Positive = 2e-4
    warmup_steps: Whole = 2000
    weight_decay: NotNegative = 0.02


class Reading(NamedTuple):
    """How a folder of pairs is read.

    Attributes:
        num_threads: that decode.
        skip_unreadable: what is no whole pair, and images that cannot be decoded, are left out,
            counted and named in the table `skipped`; for that every image is decoded once at the
            start. Otherwise one is an error: at the start in a folder of at most 20,000 images,
            else when it is drawn.
    """

    num_threads: Threads = 4
    skip_unreadable: bool = False


class Contrast(NamedTuple):
    """A contrastive method.

    Attributes:
        name: in rows and tables.
        loss: of views.
        starts: the initial temperatures, one run each.
    """

    name: str
    loss: ContrastiveLoss
    starts: Sequence[float]


def contrasts(
    *, temperature: float, starts: Sequence[float], gamma: float, learnt: LearntTemperatures
) -> list[Contrast]:
    """SimCLR, SogCLR and iSogCLR.

    Args:
        temperature: of SimCLR and SogCLR.
        starts: initial temperatures of iSogCLR, the first of which is compared with the others.
        gamma: see `contrastive.isogclr`.
        learnt: likewise.
    """
    temperatures = contrastive.Temperatures(*learnt)

    def simclr(first, second, rows, where):
        return contrastive.info_nce(first, second, temperature=rows.temperature, where=where), rows

    def sogclr(first, second, rows, where):
        values, log_u, _ = contrastive.sogclr(
            first, second, rows.log_u, temperature=rows.temperature, gamma=gamma, where=where
        )
        return values, rows._replace(log_u=log_u)

    def isogclr(first, second, rows, where):
        values, rows, _ = contrastive.isogclr(
            first, second, rows, gamma=gamma, temperatures=temperatures, where=where
        )
        return values, rows

    return [
        Contrast("simclr", simclr, (temperature,)),
        Contrast("sogclr", sogclr, (temperature,)),
        Contrast("isogclr", isogclr, tuple(starts)),
    ]


def scent(*, temperature: float, log_step: float) -> Contrast:
    """SogCLR whose inner rate is that of SCENT.

    Args:
        temperature: of every example.
        log_step: see `contrastive.scent_gamma`.
    """

    def loss(first, second, rows, where):
        gamma = contrastive.scent_gamma(rows.log_u, log_step=log_step)
        values, log_u, _ = contrastive.sogclr(
            first, second, rows.log_u, temperature=rows.temperature, gamma=gamma, where=where
        )
        return values, rows._replace(log_u=log_u)

    return Contrast("scent", loss, (temperature,))


def check_losses(methods: Sequence[Contrast], size: int) -> None:
    """Traces every loss on a step of that many views, or pairs, before anything is trained.

    Raises:
        StudyError: for what a loss refuses.
    """
    views = jax.ShapeDtypeStruct((size, 2), jnp.float32)
    where = jax.ShapeDtypeStruct((1, size), bool)
    for method in methods:
        with refused(method.name):
            start = method.starts[0]
            rows = jax.eval_shape(lambda: contrastive.isogclr_table(size, start).values)  # noqa: B023
            jax.eval_shape(method.loss, views, views, rows, where)


def check_contrast(
    batch_size: int, starts: Sequence[float], temperatures: LearntTemperatures
) -> None:
    """Raises a StudyError that names the setting which makes no sense."""
    if batch_size < 2:
        raise StudyError(f"batch_size must be at least 2, got {batch_size}.")
    bounds = temperatures.range
    if len(bounds) != 2 or not 0 < bounds[0] < bounds[1]:
        raise StudyError(f"temperatures.range must be two rising numbers, got {bounds}.")
    low, high = bounds
    check_once("starts", starts)
    if not all(low <= start <= high for start in starts):
        raise StudyError(f"starts must be from {low} to {high}, the range, got {starts}.")


def of_views(contrast: Contrast, embed: Embed) -> Callable:
    """A loss function of `train.make_train_step`: two views of each example."""

    def loss_fn(params, extra, rows, batch, key):
        views, extra = embed(params, extra, batch, key)
        where = jnp.tile(batch["mask"], 2)[None]
        values, rows = contrast.loss(views, views, rows, where)
        return values, (extra, rows, {"temperature": rows.temperature})

    return loss_fn


def of_pairs(contrast: Contrast, embed: Embed) -> Callable:
    """Likewise for the two sides of a pair, each with rows of its own."""

    def loss_fn(params, extra, rows, batch, key):
        (first, second), extra = embed(params, extra, batch, key)
        where = batch["mask"][None]
        there, rows_first = contrast.loss(first, second, rows["first"], where)
        back, rows_second = contrast.loss(second, first, rows["second"], where)
        rows = {"first": rows_first, "second": rows_second}
        temperature = (rows_first.temperature + rows_second.temperature) / 2
        return (there + back) / 2, (extra, rows, {"temperature": temperature})

    return loss_fn


def contrastive_trainer(
    loss_fn: Callable,
    tx: optax.GradientTransformation,
    tables: Callable[[jax.Array], PyTree],
    measure: Callable[[PyTree, Mapping], dict],
) -> train.Trainer:
    """What a run does; its setting is the initial temperature.

    Args:
        loss_fn: of `of_views` or `of_pairs`.
        tx: the optimiser.
        tables: from an initial temperature.
        measure: ``(state, data set) -> dict`` of arrays.

    Returns:
        A trainer for data sets with ``train``, initial ``params``, ``extra`` and a ``seed``.
    """

    def start(temperature, data_set):
        return train.init_state(
            data_set["params"],
            tx,
            key=jax.random.key(data_set["seed"]),
            extra=data_set["extra"],
            tables=tables(temperature),
        )

    step = train.make_train_step(loss_fn, tx)
    return train.Trainer(
        start,
        lambda _, data_set, state, batch: step(state, batch),
        lambda _, data_set, state: measure(state, data_set),
    )
