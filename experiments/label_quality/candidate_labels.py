"""The best of several candidate labels, from votes between two of them, and what to review."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from lnl_jax import data, label_models
from lnl_jax.data.candidates import CandidateVotes
from lnl_jax.runner import Artifact, Count, Range, Seed, StudyError, refused, study
from lnl_jax.runner.files import csv_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GENERATED = "generated"
# Rounds in which voters are weighed by how often they agree with what came out.
ROUNDS = 3
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95)
# Shares of errors among the accepted for which the fewest reviews are asked.
ERRORS = (0.2, 0.1, 0.05)


class Columns(NamedTuple):
    """The columns of a CSV file, by name; `voter` and `best` where they are known."""

    item: str = "item"
    preferred: str = "preferred"
    other: str = "other"
    voter: str | None = None
    best: str | None = None


@study
def candidate_labels(
    *,
    votes: str = GENERATED,
    columns: Columns = Columns(),
    items: Count = 500,
    candidates: Annotated[int, Range(2, 6)] = 4,
    voters: Count = 20,
    votes_per_pair: Count = 3,
    certainty: Annotated[float, Range(0.5, 1)] = 0.7,
    seed: Seed = 0,
) -> Iterator[dict[str, Any] | Artifact]:
    """Ranks the candidates of each item by votes between two of them, and says which to review.

    Several models, or people, have labelled the same items, and voters say which of two labels of
    an item is better. Candidates are ranked by their share of wins, by the model of Bradley and
    Terry, and by the same with votes weighed by how often their voter agrees with the outcome. The
    best is accepted where it beats the second with enough probability, and else reviewed: the more
    are reviewed, the fewer errors are accepted. With generated voters, whose skill is known, stand
    beside it the votes weighed by it, and the most that can be known: the posterior probability of
    each candidate to be the best.

    Bassi et al., "Label Critic: Design Data Before Models" (2024), choose between labels of organs
    by such votes of a vision-language model; here nobody looks at images. On generated votes, and
    on a file of your own:
        python experiments/run.py --exp candidate_labels
        python experiments/run.py --exp candidate_labels --votes votes.csv

    Time: seconds on a CPU.

    Args:
        votes: a CSV file with a line for each vote, or generated.
        columns: of the file.
        items: generated ones.
        candidates: of each.
        voters: of whom a fifth guess.
        votes_per_pair: of different voters on each two candidates of an item.
        certainty: from which probability of beating the second the best is accepted.
        seed: of what is generated.

    Yields:
        A row per way; the tables `results` and `review`, `labels.csv` with the choice for each
        item, those to review first, `voters.csv`; where the best are known the table `reviews`,
        how many are needed for an error, and the figure `review`.
    """
    found = _votes(votes, columns, items, candidates, voters, votes_per_pair, seed)
    ways, agreement = _ways(found)
    results = []
    for name, strengths in ways.items():
        row = {"way": name} | _judged(strengths, found.best, certainty)
        results.append(row)
        yield {"method": name} | {key: row[key] for key in row if key != "way"}
    yield Artifact("results", results)
    review = [
        {"way": name, "threshold": threshold} | _judged(strengths, found.best, threshold)
        for name, strengths in ways.items()
        for threshold in THRESHOLDS
    ]
    yield Artifact("review", [{k: row[k] for k in row if k != "best found %"} for row in review])
    chosen = ways["Bradley-Terry, voters weighed"]
    yield Artifact("labels.csv", csv_bytes(_label_rows(found, chosen, certainty)))
    yield Artifact("voters.csv", csv_bytes(_voter_rows(found, agreement)))
    if found.best is not None:
        curves = {name: _risk(strengths, found.best) for name, strengths in ways.items()}
        yield Artifact("reviews", _review_rows(curves))
        yield Artifact("review", _figure(curves))


def _votes(votes: str, columns: Columns, *generated: int) -> CandidateVotes:
    items, candidates, voters, votes_per_pair, seed = generated
    if votes == GENERATED:
        if votes_per_pair > voters:
            raise StudyError(
                f"votes_per_pair must be at most the {voters} voters, got {votes_per_pair}."
            )
        return data.generated_candidates(
            np.random.default_rng(seed),
            num_items=items,
            num_candidates=candidates,
            num_voters=voters,
            votes=votes_per_pair,
        )
    if not Path(votes).expanduser().is_file():
        raise StudyError(f"votes must be a CSV file or {GENERATED}; there is no file {votes}.")
    with refused("columns"):
        return data.candidate_csv(votes, **columns._asdict())


def _ways(found: CandidateVotes) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """By name the strengths of the candidates, ``[N, C]``; and how often each voter agrees."""
    counts = np.array([len(names) for names in found.candidate_names])
    there = np.arange(counts.max()) < counts[:, None]

    def strengths(weights: np.ndarray | None) -> np.ndarray:
        wins = label_models.pairwise_wins(found.votes, counts.max(), len(counts), weights=weights)
        # Those that an item does not have met nobody, and are not to be chosen.
        return _shares(label_models.bradley_terry(wins).probabilities * there)

    wins = label_models.pairwise_wins(found.votes, counts.max(), len(counts))
    met = np.maximum((wins + wins.swapaxes(1, 2)).sum(2), 1)
    ways = {"share of wins": _shares(wins.sum(2) / met), "Bradley-Terry": strengths(None)}
    current = ways["Bradley-Terry"]
    for _ in range(ROUNDS):
        item, one, two = found.votes.T
        agrees = current[item, one] > current[item, two]
        # A voter of few votes is taken to be right a little more often than not.
        agreement = (np.bincount(found.voter, agrees) + 2) / (np.bincount(found.voter) + 3)
        current = strengths(_weights(agreement)[found.voter])
    ways["Bradley-Terry, voters weighed"] = current
    if found.skills is not None:
        ways["Bradley-Terry, known skills"] = strengths(_weights(found.skills)[found.voter])
        ways["posterior, known skills"] = _posterior(found, counts.max())
    return ways, agreement


def _shares(values: np.ndarray) -> np.ndarray:
    return values / values.sum(1, keepdims=True)


def _weights(skills: np.ndarray) -> np.ndarray:
    """The log-odds of being right, of a mean vote 1; one who is mostly wrong counts nothing."""
    odds = np.log(np.maximum(skills, 0.5) / (1 - np.minimum(np.maximum(skills, 0.5), 0.99)))
    return odds / odds.mean() if odds.any() else np.ones_like(odds)


def _posterior(found: CandidateVotes, candidates: int) -> np.ndarray:
    """The probability of each candidate to be the best, over all orders, alike before the votes."""
    item, one, two = found.votes.T
    odds = np.log(found.skills / (1 - found.skills))[found.voter]
    orders = list(itertools.permutations(range(candidates)))
    logs = np.empty((len(found.item_names), len(orders)))
    for at, order in enumerate(orders):
        rank = np.argsort(order)
        logs[:, at] = np.bincount(item, odds * (rank[one] < rank[two]), len(logs))
    likely = np.exp(logs - logs.max(1, keepdims=True))
    first = np.eye(candidates)[[order[0] for order in orders]]
    return _shares(likely @ first)


def _judged(strengths: np.ndarray, best: np.ndarray | None, threshold: float) -> dict[str, float]:
    """How often the best is chosen, and of those accepted; without the best only how many are."""
    choice = label_models.accept_or_review(strengths, threshold)
    row = {"to review %": 100 * float((~choice.accepted).mean())}
    if best is None:
        return row
    right = choice.best == best
    accepted = right[choice.accepted]
    row = {"best found %": 100 * float(right.mean())} | row
    return row | {"errors accepted %": 100 * float((~accepted).mean()) if len(accepted) else None}


def _label_rows(found: CandidateVotes, strengths: np.ndarray, certainty: float) -> list[dict]:
    choice = label_models.accept_or_review(strengths, certainty)
    votes = np.bincount(found.votes[:, 0])
    return [
        {
            "item": found.item_names[i],
            "label": found.candidate_names[i][choice.best[i]],
            "certainty": float(choice.certainty[i]),
            "votes": int(votes[i]),
            "to do": "accept" if choice.accepted[i] else "review",
        }
        for i in np.argsort(choice.certainty, kind="stable")
    ]


def _voter_rows(found: CandidateVotes, agreement: np.ndarray) -> list[dict]:
    votes = np.bincount(found.voter)
    known = {} if found.skills is None else {"skill": found.skills}
    return [
        {"voter": found.voter_names[j], "votes": int(votes[j]), "agrees": float(agreement[j])}
        | {name: float(skills[j]) for name, skills in known.items()}
        for j in np.argsort(agreement, kind="stable")
    ]


def _risk(strengths: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share that is reviewed, and that of errors among the rest, the most certain accepted."""
    choice = label_models.accept_or_review(strengths, 0.5)
    order = np.argsort(-choice.certainty, kind="stable")
    accepted = np.arange(1, len(order) + 1)
    errors = np.cumsum((choice.best != best)[order]) / accepted
    # Items of one certainty are accepted together.
    last = np.append(np.diff(choice.certainty[order]) != 0, True)
    return (1 - accepted / len(order))[last], errors[last]


def _review_rows(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[dict]:
    """The fewest reviews by which at most so many of the accepted are errors."""
    return [
        {"way": name}
        | {
            f"to review for {100 * most:g}% errors, %": 100
            * float(review[errors <= most].min(initial=1))
            for most in ERRORS
        }
        for name, (review, errors) in curves.items()
    ]


def _figure(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4), layout="constrained")
    panel = figure.subplots()
    for name, (review, errors) in curves.items():
        panel.plot(100 * review, 100 * errors, label=name)
    panel.set(xlabel="to review, %", ylabel="errors among the accepted, %", xlim=(0, 100))
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    return figure
