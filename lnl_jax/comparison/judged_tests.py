"""Networks judged by given, corrected and people's test labels: ranks, bounds, crossings."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from lnl_jax import label_models, metrics
from lnl_jax._extras import require
from lnl_jax.comparison.corrected_tests import CorrectedTest
from lnl_jax.comparison.statistics import standard_deviation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST = 1e-12


def judge_networks(
    names: Sequence[str], probabilities: np.ndarray, tests: CorrectedTest
) -> list[dict[str, Any]]:
    """A line per network: accuracy and rank by each kind of test labels, and bounds.

    The errors are those that confident learning estimates from the probabilities of the network
    that agrees most with the given labels, on which it was not trained.

    Args:
        names: of M networks.
        probabilities: of the test examples, ``[M, seeds, J, K]``.
        tests: what is known of these.

    Returns:
        Dicts, in percent; ``errors, estimated %`` and what it makes of the agreement with given
        labels: bounds wherever the errors are, and the accuracy if errors and predictions were
        independent.
    """
    given, predicted = tests.given, probabilities.argmax(-1)
    judges = {"given": 100 * (predicted == given).mean(2)}
    single = tests.corrected >= 0
    judges["corrected"] = 100 * (predicted == tests.corrected)[..., single].mean(2)
    if tests.people is not None:
        judges["people"] = 100 * tests.people[np.arange(len(given)), predicted].mean(2)
    matrix, error_rate = estimated_noise(probabilities[judges["given"].mean(1).argmax()], given)
    table = []
    for at, name in enumerate(names):
        row: dict[str, Any] = {"network": name}
        for judge, values in judges.items():
            means = values.mean(1)
            width = standard_deviation(values[at])
            row[f"{judge} %"] = f"{means[at]:.2f} ± {width:.2f}"
            row[f"rank, {judge}"] = int((means > means[at]).sum()) + 1
        if tests.people is not None:
            log = np.log(np.maximum(probabilities[at], SMALLEST))
            row["NLL, people"] = float(-(tests.people * log).sum(-1).mean())
        agreed = jnp.float32((predicted[at] == given).sum(1).mean())
        bounds = metrics.accuracy_bounds(
            metrics.Average(agreed, jnp.float32(len(given))), error_rate
        )
        counts = np.zeros(matrix.shape)
        np.add.at(counts, (np.broadcast_to(given, predicted[at].shape), predicted[at]), 1)
        row |= {
            "errors, estimated %": 100 * error_rate,
            "at least %": 100 * float(bounds.lower),
            "at most %": 100 * float(bounds.upper),
            "if independent %": 100 * float(metrics.noise_corrected_accuracy(counts, matrix)),
        }
        table.append(row)
    return table


def estimated_noise(probabilities: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, float]:
    """The noise of the labels by confident learning: the matrix, and the share of wrong labels.

    Args:
        probabilities: by networks that were not trained on these labels, ``[seeds, J, K]``.
        given: the labels, ``[J]``.

    Returns:
        ``[K, K]``, the true class first, the identity of a class without an example; and the share.
    """
    mean = probabilities.mean(0, dtype=np.float64)
    issues = label_models.find_label_issues(mean / mean.sum(1, keepdims=True), given)
    matrix = issues.noise_matrix
    shares = np.bincount(given, minlength=len(matrix)) / len(given)
    true = np.maximum(np.linalg.lstsq(matrix.T, shares, rcond=None)[0], 0)
    error_rate = 1 - true @ np.diag(matrix) / true.sum()
    return matrix, float(np.clip(error_rate, 0, 1))


def winner_rows(table: Sequence[dict], tests: CorrectedTest) -> list[dict[str, Any]]:
    """Who is first by each judge, and how alike its ranks are to those by the given labels.

    Args:
        table: of `judge_networks`.
        tests: what was judged on.

    Returns:
        A dict per judge.
    """
    from scipy import stats

    ranks = {key[6:]: [row[key] for row in table] for key in table[0] if key.startswith("rank, ")}
    rows = []
    for judge, own in ranks.items():
        varied = len(set(own)) > 1 and len(set(ranks["given"])) > 1
        first = [row["network"] for row in table if row[f"rank, {judge}"] == 1]
        rows.append(
            {
                "labels": judge,
                "winner": " and ".join(first),
                "changed ranks": sum(a != b for a, b in zip(own, ranks["given"], strict=True)),
                "Kendall's tau": (
                    float(stats.kendalltau(own, ranks["given"]).statistic) if varied else None
                ),
                "wrong labels": int(tests.wrong.sum()),
                "of": len(tests.given),
                "no single class": int((tests.corrected < 0).sum()),
            }
        )
    return rows


def accuracies_by_part(
    probabilities: np.ndarray, tests: CorrectedTest
) -> tuple[np.ndarray, np.ndarray]:
    """The accuracy where the given label is right, and by corrected labels where it is wrong.

    Args:
        probabilities: ``[M, seeds, J, K]``.
        tests: with at least one of each.

    Returns:
        Two arrays ``[M]``.
    """
    right = probabilities.argmax(-1) == tests.corrected
    return right[..., tests.right].mean((1, 2)), right[..., tests.wrong].mean((1, 2))


def crossing_rows(
    names: Sequence[str], on_right: np.ndarray, on_wrong: np.ndarray, prevalence: float
) -> list[dict[str, Any]]:
    """Pairs that change places at some share of wrong labels, the nearest to the present first.

    Args:
        names: of the networks.
        on_right: accuracies where labels are right, ``[M]``.
        on_wrong: where they are wrong, ``[M]``.
        prevalence: the share of wrong labels here.

    Returns:
        A dict per pair.
    """
    shares = np.asarray(metrics.crossing_prevalence(on_right, on_wrong))
    pairs = [
        (i, j)
        for i, j in itertools.permutations(range(len(names)), 2)
        if on_right[i] > on_right[j] and np.isfinite(shares[i, j])
    ]
    return [
        {
            "ahead where labels are right": names[i],
            "ahead where they are wrong": names[j],
            "lead %": 100 * float(on_right[i] - on_right[j]),
            "lag %": 100 * float(on_wrong[j] - on_wrong[i]),
            "alike at wrong labels %": 100 * float(shares[i, j]),
            "here %": 100 * prevalence,
        }
        for i, j in sorted(pairs, key=lambda pair: abs(shares[pair] - prevalence))
    ]


def prevalence_figure(
    names: Sequence[str], on_right: np.ndarray, on_wrong: np.ndarray, prevalence: float
) -> "Figure":
    """The accuracy by corrected labels against the share of examples whose label was wrong.

    Args:
        names: of the networks.
        on_right: accuracies where labels are right, ``[M]``.
        on_wrong: where they are wrong, ``[M]``.
        prevalence: the share here, a dotted line.

    Returns:
        The figure.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    panel = figure.subplots()
    for at, (name, right, wrong) in enumerate(zip(names, on_right, on_wrong, strict=True)):
        # There are ten colours.
        style = ("-", "--", ":")[at // 10 % 3]
        panel.plot([0, 100], [100 * right, 100 * wrong], style, label=name)
    panel.axvline(100 * prevalence, color="gray", linestyle=":")
    panel.set(xlabel="examples whose label was wrong, %", ylabel="accuracy, corrected labels, %")
    panel.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure
