"""Labels of digits from the number of positives in each bag: belief propagation, refined."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lnl_jax import data, evaluation, label_models, metrics
from lnl_jax.comparison import BagTrainings, BagWeights, train_on_bags
from lnl_jax.comparison.statistics import standard_deviation
from lnl_jax.runner import Artifact, StudyError, stage, study
from lnl_jax.runner.arguments import Count, NotNegative, Positive, Precision, Range, Seeds, Steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What names a labelling: of pairs as in the paper, or with each bag one factor.
PROPAGATE = {
    "pairs": label_models.bag_marginals,
    "whole bags": label_models.bag_count_marginals,
}
KNOWN, PROPORTIONS = "all labels known", "proportion loss"
EXAMPLES_PER_STEP, SHOWN = 128, 32


class Beliefs(NamedTuple):
    """Of belief propagation.

    Attributes:
        bag_weight: that the counts of bags are kept.
        similarity_weight: that neighbours agree.
        num_neighbours: of each digit, by the cosine.
        steps: passes over all messages.
        damping: the share of the old message that is kept.
    """

    bag_weight: NotNegative = 10.0
    similarity_weight: NotNegative = 0.5
    num_neighbours: Annotated[int, Range(1, 1000)] = 5
    steps: Steps = 100
    damping: Annotated[float, Range(0, below=1)] = 0.5


@study
def label_proportions(
    *,
    bag_sizes: tuple[Annotated[int, Range(2, 512)], ...] = (8, 32, 128),
    rounds: Annotated[int, Range(1, 10)] = 2,
    seeds: Seeds = 3,
    epochs: Count = 100,
    learning_rate: Positive = 0.05,
    bag_loss: NotNegative = 0.1,
    whole_bags: Beliefs = Beliefs(),
    pairs: Beliefs = Beliefs(1.0, 1.0, 5, 300, 0.9),
    precision: Precision = jnp.float32,
) -> Iterator[dict[str, Any] | Artifact]:
    """Which digits are at least 5, where only their number in each bag is known.

    Training digits come in random bags. Belief propagation on the graph of bags and nearest
    neighbours, at first in pixels, gives each digit a pseudo-label; a network learns these, and
    with a small weight the share of each bag from its mean embedding; its embeddings give new
    neighbours, and so on in rounds. Beside it: the same with all pairs of a bag in place of the bag
    as a whole, as the paper has it; a network that learns the mean of its predictions in each bag
    alone (the proportion loss); and one that knows all labels.

    Havaldar et al., "Learning from Label Proportions: Bootstrapping Supervised Learners via Belief
    Propagation" (ICLR 2024), on other data and with a larger network; the weights of its code are
    10 and 10. Features and embeddings have unit norm here, weights were chosen with the labels of
    digits in sight:
        python experiments/run.py --exp label_proportions

    Time: about two minutes on 2 CPU cores, five where they are busy.

    Args:
        bag_sizes: digits in a bag.
        rounds: of propagation and training.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training digits in each round.
        learning_rate: of SGD with momentum 0.9, cosine to 0.
        bag_loss: weight of the share of the bag beside the pseudo-labels.
        whole_bags: how beliefs are propagated with each bag one factor.
        pairs: how they are with all pairs of a bag.
        precision: in which the networks compute: bfloat16 is for accelerators.

    Yields:
        A row per bag size and labelling; the table `results`; the figures `accuracy` and `bag`; the
        arrays `marginals` of the first seed.
    """
    if not bag_sizes or len(set(bag_sizes)) < len(bag_sizes):
        raise StudyError("bag_sizes must hold at least one, none of them twice.")
    beliefs = {"whole bags": whole_bags, "pairs": pairs}
    results, marginals = [], {}
    for size in bag_sizes:
        parts = [_bags(size, seed) for seed in range(seeds)]
        settings = {"epochs": epochs, "learning_rate": learning_rate, "bag_loss": bag_loss}
        settings |= {"dtype": precision}
        found = yield from stage(f"bags of {size}", _learn, parts, beliefs, rounds, **settings)
        for name, values in found["scores"].items():
            row = {"bag size": size, "labelling": name}
            for column, of_seeds in values.items():
                row[column] = float(np.mean(of_seeds))
                row[column.replace("%", "std")] = standard_deviation(of_seeds)
            results.append(row)
            yield {"method": name, **row}
        marginals[f"bags of {size}"] = found["marginals"]
    yield Artifact("results", results)
    yield Artifact("accuracy", _accuracy_figure(results))
    shown = max([size for size in bag_sizes if size <= SHOWN] or [min(bag_sizes)])
    yield Artifact("bag", _bag_figure(_bags(shown, 0), marginals[f"bags of {shown}"]))
    yield Artifact("marginals", marginals)


def _bags(size: int, seed: int) -> dict[str, np.ndarray]:
    """Training digits in bags ``[B, m, ...]``, those left over dropped, and test digits."""
    rng = np.random.default_rng(seed)
    part, test = data.hold_out(data.digits(), 0.2, rng)
    kept = rng.permutation(len(part["label"]))[: len(part["label"]) // size * size]
    label = (part["label"][kept] >= 5).astype(np.int32).reshape(-1, size)
    found = {"x": part["x"][kept].reshape(-1, size, 64), "label": label, "counts": label.sum(1)}
    return found | {"test_x": test["x"], "test_label": (test["label"] >= 5).astype(np.int32)}


def _learn(
    parts: Sequence[Mapping],
    beliefs: Mapping[str, Beliefs],
    rounds: int,
    bag_loss: float,
    **fitting,
) -> dict[str, Any]:
    """All rounds on all seeds, side by side; scores by labelling, and the last marginals."""
    truth = np.stack([part["label"] for part in parts])
    pseudo = BagWeights(labels=1.0, embedding=bag_loss)
    alone = {PROPORTIONS: BagWeights(proportion=1.0), KNOWN: BagWeights(labels=1.0)}

    def fit(labels: Mapping[str, np.ndarray], weights: Sequence[BagWeights]):
        def repeated(name):
            return np.concatenate([np.stack([part[name] for part in parts])] * len(labels))

        found = train_on_bags(
            repeated("x"),
            np.concatenate(list(labels.values())),
            repeated("counts") / truth.shape[2],
            repeated("test_x"),
            [each for each in weights for _ in parts],
            seeds=list(range(len(parts))) * len(labels),
            bags_per_step=max(1, EXAMPLES_PER_STEP // truth.shape[2]),
            **fitting,
        )
        split = [np.split(values, len(labels)) for values in found]
        return {name: BagTrainings(*each) for name, *each in zip(labels, *split, strict=True)}

    def propagated(name: str, part: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        """The chance of each digit to be positive, ``[B, m]``."""
        settings = beliefs[name]._asdict()
        edges = label_models.similarity_edges(rows, num_neighbours=settings.pop("num_neighbours"))
        bags = np.repeat(np.arange(truth.shape[1]), truth.shape[2])
        return PROPAGATE[name](bags, part["counts"], edges, **settings).reshape(truth.shape[1:])

    scores: dict[str, dict[str, np.ndarray]] = {}
    features = {name: [_flat(part["x"]) for part in parts] for name in PROPAGATE}
    for number in range(1, rounds + 1):
        marginals = {
            name: np.stack([propagated(name, *each) for each in zip(parts, rows, strict=True)])
            for name, rows in features.items()
        }
        learnt = fit({name: each > 0.5 for name, each in marginals.items()}, [pseudo, pseudo])
        for name, each in marginals.items():
            title = f"{name}, round {number}"
            scores[title] = _scores(each, truth) | _test_scores(learnt[name], parts)
            features[name] = [_flat(rows) for rows in learnt[name].embeddings]
    learnt = fit(dict.fromkeys(alone, truth), list(alone.values()))
    scores |= {name: _test_scores(learnt[name], parts) for name in alone}
    return {"scores": scores, "marginals": marginals["whole bags"][0]}


def _flat(rows: np.ndarray) -> np.ndarray:
    """Of all bags, with unit norm."""
    return np.asarray(evaluation.unit_rows(rows.reshape(-1, rows.shape[-1])))


def _area(scores: np.ndarray, label: np.ndarray) -> float:
    return 100 * float(metrics.auroc(jnp.asarray(scores.ravel()), jnp.asarray(label.ravel() == 1)))


def _scores(marginals: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Of the training digits, by seed."""
    right = ((marginals > 0.5) == truth).mean((1, 2))
    areas = np.array(list(map(_area, marginals, truth)))
    return {"pseudo-labels %": 100 * right, "their AUROC %": areas}


def _test_scores(learnt: BagTrainings, parts: Sequence[Mapping]) -> dict:
    labels = np.stack([part["test_label"] for part in parts])
    right = ((learnt.test_odds > 0) == labels).mean(1)
    areas = np.array(list(map(_area, learnt.test_odds, labels)))
    return {"accuracy %": 100 * right, "AUROC %": areas}


def _accuracy_figure(results: Sequence[Mapping[str, Any]]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4), layout="constrained")
    panel = figure.subplots()
    colors = {"pairs": "C3", "whole bags": "C0", PROPORTIONS: "C2", KNOWN: "0.4"}
    for place, name in enumerate(dict.fromkeys(row["labelling"] for row in results)):
        own = [row for row in results if row["labelling"] == name]
        kind, _, number = name.partition(", round ")
        keys = ("bag size", "accuracy %", "accuracy std")
        sizes, mean, std = ([row[key] for row in own] for key in keys)
        look = {"color": colors[kind], "linestyle": ":" if number == "1" else "-"}
        # Beside each other, so that no bar hides another.
        beside = np.array(sizes) * 2 ** (0.05 * place)
        panel.errorbar(beside, mean, std, **look, marker="o", ms=4, capsize=3, label=name)
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, map(str, sizes))
    panel.set(xlabel="digits in a bag", ylabel="test accuracy, %", ylim=(0, 102))
    panel.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _bag_figure(part: Mapping[str, np.ndarray], marginals: np.ndarray) -> "Figure":
    """The bag with most errors, of the first seed: red are pseudo-labels that are wrong."""
    from matplotlib.figure import Figure

    wrong = (marginals > 0.5) != part["label"]
    bag = int(wrong.sum(1).argmax())
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    panels = figure.subplots(4, 8).ravel()
    for place, panel in enumerate(panels):
        panel.axis("off")
        if place < len(wrong[bag]):
            panel.imshow(part["x"][bag, place].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            color = "tab:red" if wrong[bag, place] else "black"
            panel.set_title(f"{marginals[bag, place]:.2f}", fontsize=9, color=color)
    figure.suptitle(
        f"a bag of {wrong.shape[1]} digits, {part['counts'][bag]} of them at least 5, as is known: "
        f"the chance of each;\nred: {wrong[bag].sum()} pseudo-labels that are wrong, the most of "
        f"any of the {len(wrong)} bags",
        fontsize=10,
    )
    return figure
