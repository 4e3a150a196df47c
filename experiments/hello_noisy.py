"""Projectors from noisy labels: which foundation model, which adapter, which loss."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.arguments import Positive, Seed, Seeds, Share, Size, Steps, study
from experiments.augmented_views import draw_views
from experiments.choices import FIXED, LOSSES, OWN_NORMALIZATIONS, unnormalized
from experiments.contrastive_foundation import train_contrastive_foundation
from experiments.descent import accuracy
from experiments.distillation_parts import Parts, enlarged_digits
from experiments.foundation_models import Foundation
from experiments.hello_stages import finished
from experiments.low_rank_projectors import (
    Setting,
    check_ranks,
    initial_projector,
    projector_predict,
    to_float16,
    train_projector,
)
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.shifted_foundation import initial_foundation, train_foundation
from lnl_jax import noise

BATCH = 50
COMPARED = ("cross_entropy", "ldr_kl", "aldr_kl")
# (part, seed, steps, num_classes) -> foundation model
FOUNDATIONS: dict[str, Callable[..., Foundation]] = {
    "captions": train_foundation,
    "isogclr": train_contrastive_foundation,
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
    foundation_steps: Steps = 240,
    contrastive_steps: Steps = 240,
    projector_steps: Steps = 300,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
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
    tower and below it as a linear probe; iSogCLR's tower collapses in so few steps:
        python experiments/run.py --exp hello_noisy

    Time: about seven minutes of a CPU core.

    Args:
        seed: of the split and of the foundation models.
        seeds: how many draws of noise, crops and initial adapters, at least 2.
        noise_rate: probability that a label is drawn again, from all classes.
        temperature: of LDR-KL and ALDR-KL.
        rank: of the tower's adapter and of the head's.
        foundation_steps: of the captioned foundation model.
        contrastive_steps: of iSogCLR's.
        projector_steps: of every projector.
        resume: where an interrupted run goes on.

    Yields:
        A row and a checkpoint per foundation model, and per projector of all seeds; the table
        `results`.
    """
    parts = enlarged_digits(seed)
    like = jax.eval_shape(lambda: initial_foundation(seed, parts.image_shape, parts.num_classes))
    check_ranks(like, rank, rank)
    settings = {"linear probe": Setting(0, None), "LoRA": Setting(rank, rank)}
    kinds = [Kind(f, p, name) for f in FOUNDATIONS for p in settings for name in COMPARED]
    state = _empty_state(seed, parts, (len(kinds), seeds), resume)
    steps = {"captions": foundation_steps, "isogclr": contrastive_steps}
    for number, (name, make) in enumerate(FOUNDATIONS.items()):
        if state["done"] <= number:
            found = make(parts.train, seed, steps[name], num_classes=parts.num_classes)
            state["foundations"][name] = jax.tree.map(np.asarray, found)
            yield from finished(state, f"{name}, zero-shot", _zero_shot(found, parts.validation))
    objectives = {name: _objective(name, temperature) for name in COMPARED}
    batches = [_batches(parts, one, noise_rate, projector_steps) for one in range(seeds)]
    for number, kind in enumerate(kinds):
        if state["done"] > len(FOUNDATIONS) + number:
            continue
        foundation = state["foundations"][kind.foundation]
        for one in range(seeds):
            found = train_projector(
                foundation,
                settings[kind.projector],
                batches[one],
                seed=one,
                objective=objectives[kind.loss],
            )
            predict = projector_predict(foundation, found)
            state["scores"][number, one] = accuracy(predict, parts.test)
        mean = float(state["scores"][number].mean())
        yield from finished(state, ", ".join(kind), mean)
    yield Artifact("results", _results(state, kinds, parts))


def _empty_state(seed: int, parts: Parts, shape: tuple[int, int], resume: Resume) -> dict[str, Any]:
    like = jax.eval_shape(lambda: initial_foundation(seed, parts.image_shape, parts.num_classes))
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    state = {
        "done": np.int32(0),
        "foundations": dict.fromkeys(FOUNDATIONS, like),
        "scores": np.zeros(shape, np.float32),
    }
    return jax.tree.map(np.array, resume.restore(state))


def _zero_shot(foundation: Foundation, part: Mapping) -> float:
    plain = to_float16(initial_projector(foundation, Setting(0, None), 0))
    return accuracy(projector_predict(foundation, plain), part)


def _objective(name: str, temperature: float) -> Callable[[jax.Array, Mapping], jax.Array]:
    """A loss of the noisy labels, after the normalisation that belongs to it."""
    normalize = OWN_NORMALIZATIONS.get(name, unnormalized)
    settings = dict(FIXED.get(name, {}))
    if settings:
        settings["temperature"] = temperature
    loss = functools.partial(LOSSES[name], **settings)
    return lambda logits, batch: loss(normalize(logits), batch["labels"])


def _batches(parts: Parts, seed: int, rate: float, steps: int) -> dict[str, np.ndarray]:
    """Crops of the training images, never mixed, with noisy labels."""
    part = parts.train
    matrix = noise.symmetric(parts.num_classes, rate, include_self=True)
    noisy = noise.corrupt(part["label"], matrix, np.random.default_rng((seed, 4))).labels
    views = draw_views(
        part["image"],
        noisy,
        seed=seed,
        steps=steps,
        batch_size=BATCH,
        num_classes=parts.num_classes,
        alpha=0.0,
    )
    return {"images": views.images, "labels": noisy[views.geometry.rows]}


def _results(state: Mapping[str, Any], kinds: list[Kind], parts: Parts) -> list[dict[str, Any]]:
    """A line per foundation, projector and loss, after the foundations as they are."""
    lines = []
    for name, foundation in state["foundations"].items():
        line = {"foundation": name, "projector": "zero-shot", "loss": ""}
        lines.append(line | {"test %": _zero_shot(foundation, parts.test), "std": None})
    for kind, scores in zip(kinds, state["scores"].astype(np.float64), strict=True):
        found = {"test %": float(scores.mean()), "std": float(scores.std(ddof=1))}
        lines.append(kind._asdict() | found)
    return lines
