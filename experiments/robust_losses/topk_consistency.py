"""Which losses are consistent for the top k: each minimised exactly under known posteriors."""

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np

from lnl_jax import losses
from lnl_jax.comparison.catalogue import CATALOGUE, KNOWN, PAPER_LOSSES, TOP_K_LOSSES, LossEntry
from lnl_jax.comparison.catalogue import tied as settings_of
from lnl_jax.comparison.consistency import is_symmetric, minimum, posteriors_of_order
from lnl_jax.comparison.statistics import setting_text
from lnl_jax.runner.arguments import (
    Count,
    Range,
    Seed,
    StudyError,
    check_names,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact


def asymmetric_unhinged_1(logits, labels, *, a, axis=-1):
    """With q = 1 it is symmetric."""
    return losses.asymmetric_unhinged(logits, labels, a=a, q=1.0, axis=axis)


# Besides the paper's; hinge losses have no gradient at their minimum.
SYMMETRIC = ("mean_absolute_error", "reverse_cross_entropy", "asymmetric_unhinged_1")
SYMMETRIC += ("normalized_cross_entropy", "nce_rce")
NO_GRADIENT = ("crammer_singer", "weston_watkins")
ENTRIES = CATALOGUE | TOP_K_LOSSES
ENTRIES |= {
    "asymmetric_unhinged_1": LossEntry(asymmetric_unhinged_1, settings_of(a=(3.0,))),
    # The exact loss: the step of the paper's algorithm has no minimum of its own.
    "aldr_kl": CATALOGUE["aldr_kl"]._replace(grid=settings_of(temperature=(1.0, 10.0))),
}
DEFAULT = ("ldr_kl", "aldr_kl", *TOP_K_LOSSES, *SYMMETRIC)
DEFAULT += tuple(
    name
    for name in PAPER_LOSSES
    if name not in (*DEFAULT, *NO_GRADIENT, "aldr_kl_step", "truncated_generalized_cross_entropy")
)


@study
def topk_consistency(
    *,
    losses: tuple[str, ...] = DEFAULT,
    classes: Annotated[int, Range(3, 20)] = 6,
    posteriors: Count = 8,
    apart: Annotated[float, Range(above=0, below=0.2)] = 0.01,
    starts: Annotated[int, Range(1, 100)] = 2,
    tolerance: Annotated[float, Range(above=0, below=0.1)] = 1e-6,
    seed: Seed = 0,
) -> Iterator[dict[str, Any] | Artifact]:
    """Top-k regret of what minimises each loss, for posteriors that are known.

    Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML 2023),
    Section 4: LDR-KL and ALDR-KL are consistent for the top k whatever k; a symmetric loss that is
    consistent for k = 1 is not for all k. For each random posterior the risk is minimised in
    float64, freely, and with the scores of the k-th and the next class held equal. The regret is
    the largest one among all scores whose risk is within the tolerance of the least, ties broken
    against them; the gap says how much more risk equal scores cost, at least. A loss is consistent
    here if the regret is 0 for every posterior. Scores are plain, without a normalisation.

        python experiments/run.py --exp topk_consistency

    Time: about a minute on 2 CPU cores, most of it ALDR-KL.

    Result: LDR-KL and ALDR-KL without regret for all k, symmetric losses for k = 1 at most;
    docs/results/topk_consistency.

    Args:
        losses: names of the catalogue, ldr_k2, ldr_k5, asymmetric_unhinged_1; each with its
            settings.
        classes: K.
        posteriors: how many are drawn.
        apart: by how much two probabilities of a posterior differ, at least.
        starts: random scores from which a risk is minimised, besides 0.
        tolerance: which risks are as good as the least.
        seed: of the posteriors and the starts.

    Yields:
        A row per loss and setting; the tables `regret` and `gap`, by k, and `counter_examples`.
    """
    check_names("losses", losses, ENTRIES)
    with refused():
        drawn = posteriors_of_order(posteriors, classes, least=apart, seed=seed)
    calls = {name: _call(name, classes) for name in losses}
    regrets, gaps, examples = [], [], []
    for number, (name, (call, grid)) in enumerate(calls.items(), 1):
        for setting in grid:
            with refused(f"losses: {name}"):
                found = minimum(call, drawn, setting, starts=starts, tolerance=tolerance, seed=seed)
            symmetric = is_symmetric(call, classes, setting)
            head = {"loss": name, "setting": setting_text(setting), "symmetric": symmetric}
            worst = found.regret.max(0)
            consistent = [k for k, value in enumerate(worst, 1) if value < 1e-6]
            text = " ".join(map(str, consistent)) or "none"
            regrets.append(head | {f"k = {k}": v for k, v in enumerate(worst.tolist(), 1)})
            regrets[-1]["consistent for k of"] = text
            regrets[-1]["posteriors without a minimum"] = int((~found.bounded).sum())
            least = found.gap.min(0).tolist()
            gaps.append(head | {f"k = {k}": max(v, 0.0) for k, v in enumerate(least, 1)})
            if worst.max() >= 1e-6:
                examples.append(head | _example(found, drawn))
            yield head | {
                "epoch": number,
                "largest_regret": float(worst.max()),
                "consistent_for": text,
                "without_a_minimum": int((~found.bounded).sum()),
            }
    yield Artifact("regret", regrets)
    yield Artifact("gap", gaps)
    if examples:
        yield Artifact("counter_examples", examples)


def _call(name: str, classes: int) -> tuple[Any, list[Mapping[str, float]]]:
    """The loss with what it fixes, and its settings."""
    entry = ENTRIES[name]
    asked = [one for one in KNOWN if one in inspect.signature(entry.function).parameters]
    if asked or entry.views is not None or entry.initial_rows is not None:
        raise StudyError(
            f"losses cannot be {name}, which is no function of scores and a label alone; take "
            "another."
        )
    if name == "ldr_k5" and classes < 5:
        raise StudyError(f"losses cannot be ldr_k5 with classes {classes}: k is at most that.")
    return functools.partial(entry.function, **entry.fixed), list(entry.grid)


def _example(found: Any, drawn: np.ndarray) -> dict[str, Any]:
    """Where the regret is largest: the posterior, and for which k."""
    at, k = np.unravel_index(found.regret.argmax(), found.regret.shape)
    return {
        "k": int(k) + 1,
        "regret": float(found.regret[at, k]),
        "posterior": " ".join(f"{value:.3f}" for value in drawn[at]),
    }
