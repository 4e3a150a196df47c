"""Few good labels or many cheap ones: quantity against quality at a fixed budget."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from lnl_jax import comparison, data, noise
from lnl_jax.comparison.catalogue import CATALOGUE, LossEntry
from lnl_jax.comparison.cross_validation import score_held_out
from lnl_jax.comparison.statistics import LabelPurchase, setting_text
from lnl_jax.data.digits import NUM_CLASSES
from lnl_jax.runner import (
    Artifact,
    Count,
    Positive,
    Range,
    Seed,
    Seeds,
    Share,
    StudyError,
    Whole,
    refused,
    stage,
    study,
)
from lnl_jax.runner.arguments import check_names, check_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of the digits; what is left can be labelled.
TEST, VALIDATION = 600, 200


METHODS = {name: CATALOGUE[name] for name in ("cross_entropy", "generalized_cross_entropy")}
METHODS |= {"ldr_kl": CATALOGUE["ldr_kl"]}
METHODS["log_confidence"] = CATALOGUE["log_confidence"]._replace(
    grid=({},), fixed={"weight": 0.5}, warmup={"weight": 0.0}
)


@study
def label_budget(
    *,
    budgets: tuple[Positive, ...] = (50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0),
    shares: tuple[Share, ...] = (0.0, 0.25, 0.5, 0.75, 1.0),
    high_cost: Positive = 10.0,
    low_cost: Positive = 1.0,
    noise_rate: Annotated[float, Range(0, below=1)] = 0.4,
    methods: tuple[str, ...] = ("cross_entropy", "ldr_kl", "log_confidence"),
    width: Whole = 64,
    epochs: Count = 30,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.02),
    seeds: Seeds = 3,
    seed: Seed = 0,
) -> Iterator[dict[str, Any] | Artifact]:
    """What a budget should buy: labels that are right, cheap ones that are often false, or both.

    A share of each budget buys right labels of digits, the rest cheap ones; networks are trained on
    what was bought and scored on digits held out. What no other purchase beats at its cost is the
    Pareto front; a budget is of the regime of quantity where only cheap labels are best, of quality
    where only right ones are, mixed between. Trainings take the same number of steps, whatever was
    bought; learning rate and setting are chosen by 200 right labels that are not in the budget.

    The question, the costs and the regimes are those of Mallen and Belrose, "Balancing Label
    Quantity and Quality for Scalable Elicitation" (2024), and so is cross-entropy with the
    network's own confident predictions, here from half of the training on; they train language
    models on labels of weaker ones, here cheap labels are another class at random:
        python experiments/run.py --exp label_budget

    Time: about a minute on 2 CPU cores.

    Args:
        budgets: what may be spent.
        shares: of a budget that are spent on right labels.
        high_cost: of a right label.
        low_cost: of a cheap one.
        noise_rate: share of the cheap labels that are another class.
        methods: cross_entropy, generalized_cross_entropy, ldr_kl, log_confidence.
        width: of a hidden layer; 0 is a linear network.
        epochs: passes over as many examples as the largest purchase has.
        batch_size: examples per step.
        learning_rates: to choose from.
        seeds: splits and trainings of each, at least 2.
        seed: of the first.

    Yields:
        A row per method; the tables `results` and `regimes`; the figure `front`.
    """
    check_names("methods", methods, METHODS)
    check_once("budgets", budgets)
    check_once("shares", shares)
    digits = data.digits()
    most = len(digits["label"]) - TEST - VALIDATION
    with refused():
        bought = comparison.budget_grid(
            sorted(budgets), sorted(shares), high_cost=high_cost, low_cost=low_cost, most=most
        )
    if not bought:
        raise StudyError(f"shares: no budget buys a label of {high_cost:g}; give share 0, too.")
    rows = []
    for name in methods:
        found = yield from stage(
            name,
            _accuracies,
            digits,
            bought,
            METHODS[name],
            noise_rate=noise_rate,
            seeds=range(seed, seed + seeds),
            hidden=(width,) if width else (),
            epochs=epochs,
            batch_size=batch_size,
            learning_rates=learning_rates,
        )
        for one, values, chosen in zip(bought, found["accuracy"], found["chosen"], strict=True):
            row = {"method": name} | one._asdict() | {"accuracy %": float(values.mean())}
            rows.append(row | {"std": float(values.std(ddof=1)), "chosen": chosen})
        yield {"method": name, "accuracy": float(found["accuracy"].mean() / 100)}
    costs, accuracies = ([row[key] for row in rows] for key in ("cost", "accuracy %"))
    front = comparison.pareto_front(costs, accuracies)
    for row, is_on in zip(rows, front, strict=True):
        row["on the front"] = bool(is_on)
    yield Artifact("results", sorted(rows, key=lambda row: (row["cost"], -row["accuracy %"])))
    yield Artifact("regimes", _regimes(rows))
    yield Artifact("front", _figure(rows))


def _accuracies(
    digits: dict[str, np.ndarray],
    bought: Sequence[LabelPurchase],
    loss: LossEntry,
    *,
    noise_rate: float,
    seeds: Sequence[int],
    **network: Any,
) -> dict[str, Any]:
    """Of each purchase the accuracies of the seeds in percent, at its best setting."""
    size, true = len(digits["label"]), digits["label"]
    cheap = noise.corrupt(
        true, noise.symmetric(NUM_CLASSES, noise_rate), np.random.default_rng(seeds[0])
    ).labels
    # The digits twice: the first ones have cheap labels, the others right ones.
    features, labels = np.concatenate([digits["x"]] * 2), np.concatenate([cheap, true])
    longest = max(one.high + one.low for one in bought)
    parts, streams = [], []
    for one in bought:
        for stream in seeds:
            order = np.random.default_rng(stream).permutation(size)
            held, pool = np.split(order, [TEST + VALIDATION])
            own = np.concatenate([pool[: one.high] + size, pool[one.high :][: one.low]])
            # Over again, so that each training has as many steps, and its batches are full.
            parts.append((np.resize(own, longest), held + size))
            streams.append(stream)
    found = score_held_out(
        features, labels, parts, streams, loss=loss, num_classes=NUM_CLASSES, **network
    )
    right = np.stack(
        [found.probabilities[at].argmax(-1) == labels[held] for at, (_, held) in enumerate(parts)]
    ).reshape(len(bought), len(seeds), len(found.settings), -1)
    finite = np.array([np.isfinite(values).all((1, 2)) for values in found.probabilities])
    finite = finite.reshape(len(bought), len(seeds), -1).all(1)
    validated = np.where(finite, right[..., :VALIDATION].mean((1, 3)), -1)
    best = validated.argmax(1)
    on_test = 100 * right[np.arange(len(bought)), :, best, VALIDATION:].mean(-1)
    return {"accuracy": on_test, "chosen": [setting_text(found.settings[at]) for at in best]}


def _regimes(rows: Sequence[dict]) -> list[dict]:
    """What is bought best with each budget, by any method and by each."""
    table = []
    for budget in sorted({row["budget"] for row in rows}):
        own = [row for row in rows if row["budget"] == budget]
        best = max(own, key=lambda row: row["accuracy %"])
        line = {"budget": budget, "best method": best["method"]}
        line |= {"right labels": best["high"], "cheap labels": best["low"]}
        line |= {"accuracy %": best["accuracy %"], "std": best["std"]}
        line["regime"] = "mixed"
        if not best["low"] or not best["high"]:
            line["regime"] = "quality" if best["high"] else "quantity"
        for name, where in {"only right %": "low", "only cheap %": "high"}.items():
            alone = [row["accuracy %"] for row in own if not row[where]]
            line[name] = max(alone) if alone else None
        table.append(line)
    return table


def _figure(rows: Sequence[dict]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        points = [row["cost"] for row in own], [row["accuracy %"] for row in own]
        panel.scatter(*points, s=14, alpha=0.6, label=name)
    front = sorted((row["cost"], row["accuracy %"]) for row in rows if row["on the front"])
    panel.step(*zip(*front, strict=True), where="post", color="gray", label="Pareto front")
    panel.set(xscale="log", xlabel="cost of the labels", ylabel="accuracy %")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    return figure
