"""Projectors from noisy labels: which foundation model, which adapter, which loss."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import noise
from lnl_jax.comparison.catalogue import CATALOGUE
from lnl_jax.comparison.label_plan import BATCH
from lnl_jax.distill import images, labels, networks, projectors
from lnl_jax.runner.arguments import (
    Positive,
    Precision,
    Seed,
    Seeds,
    Share,
    Size,
    Steps,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact, Output
from lnl_jax.runner.stages import stage

COMPARED = ("cross_entropy", "ldr_kl", "aldr_kl")
# (part, seed, steps, num_classes) -> foundation model
FOUNDATIONS: dict[str, Callable[..., projectors.Foundation]] = {
    "captions": projectors.train_captioned_foundation,
    "isogclr": projectors.train_contrastive_foundation,
}


class Kind(NamedTuple):
    """A line of the table."""

    foundation: str
    projector: str
    loss: str


@study
def hello_noisy(
    *,
    seed: Seed = 0,
    seeds: Seeds = 3,
    noise_rate: Share = 0.6,
    temperature: Positive = 10.0,
    rank: Size = 4,
    precision: Precision = jnp.float32,
    foundation_steps: Steps = 240,
    contrastive_steps: Steps = 240,
    projector_steps: Steps = 300,
) -> Iterator[Output]:
    """Projectors trained on noisy labels alone: captioned or iSogCLR towers, CE, LDR-KL, ALDR-KL.

    Where no teacher was trained on clean labels, a projector can learn the noisy ones themselves.
    Two foundation models of scikit-learn's digits, each on the shifted domain of `hello_digits`:
    one learned 30% wrong captions, the other only images, by iSogCLR, with words that are means
    over captioned images. On each a linear probe and a low-rank adapter learn the training images,
    cropped, with redrawn labels. Nothing is chosen: temperatures and margins are those that
    `ldr_digits` uses. Reported is accuracy on clean test images.

    A combination of "Not All Semantics are Created Equal" (iSogCLR, ICML 2023), "Label
    Distributionally Robust Losses" (LDR, ICML 2023) and "Heavy Labels Out!" (HeLlO, ICCV 2025)
    that none of them has. Here LDR-KL is above cross-entropy with an adapter on the captioned
    tower and below it as a linear probe; iSogCLR's tower collapses in so few steps. About seven
    minutes of a CPU core:
        python experiments/run.py --exp hello_noisy

    Time: about seven minutes of a CPU core.

    Args:
        seed: of the split and of the foundation models.
        seeds: how many draws of noise, crops and initial adapters, at least 2.
        noise_rate: probability that a label is drawn again, from all classes.
        temperature: of LDR-KL and ALDR-KL.
        rank: of the tower's adapter and of the head's.
        precision: in which the networks compute: bfloat16 is for accelerators.
        foundation_steps: of the captioned foundation model.
        contrastive_steps: of iSogCLR's.
        projector_steps: of every projector.

    Yields:
        A row per foundation model, and per projector of all seeds; the table `results`.
    """
    parts = images.digit_parts(seed)
    form = jax.eval_shape(lambda: projectors.initial_foundation(seed, parts.image_shape, 10))
    with refused():
        projectors.check_ranks(form, rank, rank)
    epochs = itertools.count(1)

    # Foundation models.
    def train_foundation(name):
        steps = {"captions": foundation_steps, "isogclr": contrastive_steps}[name]
        options = {"num_classes": 10, "dtype": precision}
        return FOUNDATIONS[name](parts.train, seed, steps, **options).arrays()

    foundations = {}
    for name in FOUNDATIONS:
        arrays = yield from stage(name, train_foundation, name)
        foundations[name] = projectors.small_foundation(arrays, dtype=precision)
        right = zero_shot(foundations[name], parts.validation)
        yield {"epoch": next(epochs), "method": f"{name}, zero-shot", "accuracy": right / 100}

    # Projectors, each on several draws of noise, crops and initial adapters.
    adaptations = {
        "linear probe": projectors.Adaptation(0, None),
        "LoRA": projectors.Adaptation(rank, rank),
    }
    objectives = {name: objective(name, temperature) for name in COMPARED}
    batches = [noisy_batches(parts, one, noise_rate, projector_steps) for one in range(seeds)]

    def train_projectors(kind):
        foundation, right = foundations[kind.foundation], []
        for one in range(seeds):
            found = projectors.train_projector(
                foundation,
                adaptations[kind.projector],
                batches[one],
                seed=one,
                objective=objectives[kind.loss],
            )
            predict = projectors.projector_logits(foundation, found)
            right.append(networks.percent_right(predict, parts.test))
        return np.float32(right)

    scores = {}
    for kind in itertools.starmap(Kind, itertools.product(FOUNDATIONS, adaptations, COMPARED)):
        name = ", ".join(kind)
        scores[kind] = yield from stage(name, train_projectors, kind)
        yield {"epoch": next(epochs), "method": name, "accuracy": float(scores[kind].mean()) / 100}

    # The table, after the foundation models as they are.
    lines = []
    for name, foundation in foundations.items():
        line = {"foundation": name, "projector": "zero-shot", "loss": ""}
        lines.append(line | {"test %": zero_shot(foundation, parts.test), "std": None})
    for kind, found in scores.items():
        tests = found.astype(np.float64)
        line = {"test %": float(tests.mean()), "std": float(tests.std(ddof=1))}
        lines.append(kind._asdict() | line)
    yield Artifact("results", lines)


def zero_shot(foundation: projectors.Foundation, part: Mapping[str, np.ndarray]) -> float:
    """Accuracy of a foundation model as it is, in percent."""
    plain = projectors.zero_shot_projector(foundation)
    return networks.percent_right(projectors.projector_logits(foundation, plain), part)


def objective(name: str, temperature: float) -> Callable[[jax.Array, Mapping], jax.Array]:
    """A loss of the noisy labels, after the normalisation that belongs to it."""
    entry = CATALOGUE[name]
    settings = dict(entry.fixed)
    if settings:
        settings["temperature"] = temperature
    loss = functools.partial(entry.function, **settings)
    return lambda logits, batch: loss(entry.normalize(logits), batch["labels"])


def noisy_batches(
    parts: images.ImageParts, seed: int, rate: float, steps: int
) -> dict[str, np.ndarray]:
    """Crops of the training images, never mixed, with noisy labels."""
    part = parts.train
    matrix = noise.symmetric(parts.num_classes, rate, include_self=True)
    noisy = noise.corrupt(part["label"], matrix, np.random.default_rng((seed, 4))).labels
    views = labels.draw_views(
        part["image"],
        noisy,
        seed=seed,
        steps=steps,
        batch_size=BATCH,
        num_classes=parts.num_classes,
        alpha=0.0,
    )
    return {"images": views.images, "labels": noisy[views.geometry.rows]}
