"""Which digits a network memorises, and whom they help: hundreds of trainings on random subsets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import jax.numpy as jnp
import numpy as np

from lnl_jax import comparison, data, label_models, metrics, noise
from lnl_jax.data.digits import NUM_CLASSES
from lnl_jax.runner import Artifact, Count, Positive, Precision, Range, Seed, Share, stage, study
from lnl_jax.runner.arguments import check_batch_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, OCCURRENCES = 16, 6


@study
def memorization_digits(
    *,
    trainings: Annotated[int, Range(2, 10_000)] = 200,
    subset: Annotated[float, Range(above=0, below=1)] = 0.7,
    noise_rate: Annotated[float, Range(0, below=1)] = 0.1,
    epochs: Count = 40,
    batch_size: Count = 64,
    learning_rate: Positive = 0.1,
    memorized: Share = 0.25,
    subpopulations: Annotated[int, Range(2, 1_000_000)] = 1000,
    precision: Precision = jnp.float32,
    seed: Seed = 0,
) -> Iterator[dict[str, Any] | Artifact]:
    """Memorisation and influence on scikit-learn's digits, some of them mislabelled.

    A network of two hidden layers of 64 is trained on many random subsets of the training digits,
    80% of all, in one program; a share of the training labels is replaced by another class.
    Memorisation of an example is how much likelier its given label is predicted by the networks
    that saw it than by those that did not; its influence on a test digit likewise. Right out of the
    bag is the second of these shares alone.

    The estimates are those of Feldman and Zhang, "What Neural Networks Memorize and Why" (NeurIPS
    2020); the cost of an error on what was seen a few times is that of Feldman, "Does Learning
    Require Memorization?" (STOC 2020), Theorem 2.3, for subpopulations whose frequencies fall as
    Zipf's law has it. The threshold of `memorized` is the usual one as it is remembered, not
    compared with the paper:
        python experiments/run.py --exp memorization_digits

    Time: under a minute on 2 CPU cores.

    Args:
        trainings: how many, at least 2.
        subset: share of the training digits that each sees.
        noise_rate: share of the training labels that become another class.
        epochs: passes over a subset.
        batch_size: examples per step.
        learning_rate: of SGD with momentum 0.9; it falls tenfold twice.
        memorized: from which estimate on an example counts as memorised.
        subpopulations: of the prior of the long tail.
        precision: in which the networks compute: bfloat16 is for accelerators.
        seed: of the split, the noise, the subsets and the trainings.

    Yields:
        A row of the accuracies; the tables `results`, `influence` and `long_tail`; the figures
        `most_memorized`, `distribution` and `influence_pairs`; the arrays `estimates`.
    """
    train_part, test = _digits(noise_rate, seed)
    check_batch_size(batch_size, int(subset * len(train_part["label"])))
    found = yield from stage(
        "trainings",
        _train_on_subsets,
        train_part,
        test,
        trainings=trainings,
        subset=subset,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        dtype=precision,
        seed=seed,
    )
    inside = found["in_subset"]
    memory = label_models.memorization_estimates(found["correct"], inside)
    outside = label_models.out_of_bag_values(found["correct"], inside)
    influence = label_models.influence_estimates(found["test_correct"], inside)
    false = train_part["label"] != train_part["clean_label"]

    yield {
        "trainings": trainings,
        "trained accuracy": float(found["correct"][inside].mean()),
        "accuracy": float(found["test_correct"].mean()),
    }
    yield Artifact("results", _results(memory, outside, false, memorized))
    yield Artifact("influence", _influence_table(influence, memory, false, memorized))
    yield Artifact("long_tail", _long_tail(subpopulations, len(memory)))
    yield Artifact("most_memorized", _most_memorized(train_part, memory, false))
    yield Artifact("distribution", _distribution(memory, outside, false))
    yield Artifact("influence_pairs", _influence_pairs(train_part, test, influence, false))
    yield Artifact(
        "estimates",
        {
            "index": train_part["index"],
            "label": train_part["label"],
            "clean_label": train_part["clean_label"],
            "memorization": memory,
            "out_of_bag": outside,
            "influence": influence.astype(np.float32),
            "test_index": test["index"],
        },
    )


def _digits(noise_rate: float, seed: int) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    part, test = data.hold_out(data.digits(), 0.2, rng)
    noisy = noise.corrupt(part["label"], noise.symmetric(NUM_CLASSES, noise_rate), rng)
    return part | {"clean_label": part["label"], "label": noisy.labels}, test


def _train_on_subsets(part: Mapping, test: Mapping, **settings: Any) -> dict[str, np.ndarray]:
    """All trainings side by side, as a stage keeps them."""
    parts = (part["x"], part["label"], test["x"], test["label"])
    return comparison.train_on_subsets(*parts, num_classes=NUM_CLASSES, **settings)._asdict()


def _results(
    memory: np.ndarray, outside: np.ndarray, false: np.ndarray, memorized: float
) -> list[dict]:
    """The estimates of the digits with right and with false labels, and how well they tell."""
    rows = []
    for name, where in {"right": ~false, "false": false}.items():
        if where.any():
            own = memory[where]
            row = {"label": name, "digits": len(own), "memorisation": float(np.nanmean(own))}
            row |= {"median": float(np.nanmedian(own))}
            row |= {f"% from {memorized:g} on": 100 * float(np.nanmean(own >= memorized))}
            rows.append(row | {"right out of the bag %": 100 * float(np.nanmean(outside[where]))})
    if len(rows) == 2:
        known = ~np.isnan(memory)
        for row, suspicion in zip(rows, (memory, -outside), strict=True):
            scores, positive = jnp.asarray(suspicion[known]), jnp.asarray(false[known])
            row["AUROC of"] = "memorisation" if suspicion is memory else "out of the bag"
            row["AUROC %"] = 100 * float(metrics.auroc(scores, positive))
    return rows


def _influence_table(
    influence: np.ndarray, memory: np.ndarray, false: np.ndarray, memorized: float
) -> list[dict]:
    """The total influence of an example on all test digits, by kind."""
    kinds = {
        "right, not memorised": ~false & (memory < memorized),
        "right, memorised": ~false & (memory >= memorized),
        "false, memorised": false & (memory >= memorized),
        "false, not memorised": false & (memory < memorized),
    }
    total = influence.sum(1)
    return [
        {
            "kind": name,
            "digits": int(where.sum()),
            "test digits won by each": float(total[where].mean()),
            "standard error": float(total[where].std(ddof=1) / where.sum() ** 0.5),
            "largest influence on one": float(influence[where].max()),
        }
        for name, where in kinds.items()
        if where.sum() > 1
    ]


def _long_tail(subpopulations: int, num_examples: int) -> list[dict]:
    """What an error costs on a subpopulation that was seen so many times."""
    frequencies, rows = 1 / np.arange(1, subpopulations + 1), []
    frequencies /= frequencies.sum()
    for seen in range(min(OCCURRENCES, num_examples + 1)):
        tau = label_models.long_tail_tau(frequencies, num_examples, seen)
        share = seen / num_examples
        rows.append({"seen": seen, "tau %": 100 * tau, "share of the examples %": 100 * share})
    return rows


def _most_memorized(part: Mapping, memory: np.ndarray, false: np.ndarray) -> "Figure":
    from matplotlib.figure import Figure

    kinds = {"right labels": ~false, "false labels": false}
    kinds = {name: where for name, where in kinds.items() if where.any()}
    figure = Figure(figsize=(9, 3.4 * len(kinds) + 0.3), layout="constrained")
    blocks = np.atleast_1d(figure.subfigures(len(kinds), 1))
    for block, (name, where) in zip(blocks, kinds.items(), strict=True):
        title = f"{name}, the most memorised of {where.sum():,} digits: label and memorisation"
        block.suptitle(title, fontsize=11)
        order = np.argsort(-np.where(where & ~np.isnan(memory), memory, -np.inf))
        panels = block.subplots(2, SHOWN // 2).ravel()
        for panel, row in zip(panels, order[: min(SHOWN, where.sum())], strict=False):
            given, true = part["label"][row], part["clean_label"][row]
            text = f"{given}" if given == true else f"given {given}, is {true}"
            _show(panel, part["x"][row], f"{text}\n{memory[row]:.2f}")
        for panel in panels:
            panel.axis("off")
    return figure


def _distribution(memory: np.ndarray, outside: np.ndarray, false: np.ndarray) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 3.2), layout="constrained")
    low = np.floor(np.nanmin(memory) * 10) / 10
    drawn = {"memorisation": (memory, (low, 1)), "right out of the bag": (outside, (0, 1))}
    for panel, (name, (values, span)) in zip(figure.subplots(1, 2), drawn.items(), strict=True):
        for label, where in {"right label": ~false, "false label": false}.items():
            if where.any():
                weights = np.full(where.sum(), 100 / where.sum())
                panel.hist(values[where], 30, weights=weights, range=span, alpha=0.6, label=label)
        panel.set(xlabel=name, ylabel="% of the digits", yscale="log")
    figure.axes[1].legend(frameon=False, loc="upper center")
    return figure


def _influence_pairs(
    part: Mapping, test: Mapping, influence: np.ndarray, false: np.ndarray
) -> "Figure":
    """Training digits with right labels, above the test digit that each helps most."""
    from matplotlib.figure import Figure

    largest = np.where(false, -np.inf, np.nan_to_num(influence.max(1), nan=-np.inf))
    shown = np.argsort(-largest)[: SHOWN // 2]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(2, SHOWN // 2)
    for (above, below), row in zip(panels.T, shown, strict=False):
        helped = influence[row].argmax()
        _show(above, part["x"][row], f"trained: {part['label'][row]}")
        _show(below, test["x"][helped], f"test: {test['label'][helped]}\n+{largest[row]:.2f}")
    for panel in panels.ravel():
        panel.axis("off")
    figure.suptitle(
        "digits with right labels, and the test digit that each helps most", fontsize=11
    )
    return figure


def _show(panel: Any, pixels: Sequence[float], title: str) -> None:
    panel.imshow(np.reshape(pixels, (8, 8)), cmap="gray_r", vmin=0, vmax=1)
    panel.set_title(title, fontsize=9)
