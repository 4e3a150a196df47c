"""Votes between two candidate labels of an item at a time: from a user's file, or generated."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnl_jax._files import shown
from lnl_jax._host_arguments import check_generator, check_integer
from lnl_jax.data.csv_files import check_column, read_cells, read_rows


class CandidateVotes(NamedTuple):
    """Which of two candidates of an item voters preferred.

    Attributes:
        votes: a row each: item, preferred candidate, other candidate; int32, ``[M, 3]``. Candidates
            are numbered within their item.
        voter: who gave it, int32, ``[M]``.
        item_names: of the N items.
        voter_names: of the J voters.
        candidate_names: of each item, in the order of their numbers.
        best: the best candidate of each item, int32, ``[N]``; None where it is not known.
        skills: with which probability each voter prefers the better one, ``[J]``; None where it is
            not known.

    Example:
        >>> found = generated_candidates(np.random.default_rng(0), num_items=10)
        >>> found.votes.shape, len(found.candidate_names[0])
        ((180, 3), 4)
    """

    votes: np.ndarray
    voter: np.ndarray
    item_names: tuple[str, ...]
    voter_names: tuple[str, ...]
    candidate_names: tuple[tuple[str, ...], ...]
    best: np.ndarray | None = None
    skills: np.ndarray | None = None


def candidate_csv(
    file: str | os.PathLike,
    *,
    item: str = "item",
    preferred: str = "preferred",
    other: str = "other",
    voter: str | None = None,
    best: str | None = None,
) -> CandidateVotes:
    r"""Votes from a CSV file with a line of column names and a line for each vote.

    Args:
        file: in UTF-8, separated by commas, semicolons or tabs.
        item: the column with the name of what the candidates are of.
        preferred: the column with the candidate that was preferred.
        other: the column with the one that it was compared with.
        voter: the column with who voted; None takes all votes to be of one.
        best: a column with the best candidate, the same in all lines of an item; None where it is
            not known.

    Returns:
        The `CandidateVotes`; candidates are numbered in the order of their names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing (close ones are named), a field is empty, a candidate is
            compared with itself, or an item has two best candidates or one without a vote; names
            file and row.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = Path(folder.name, "votes.csv")
        >>> _ = file.write_text("item,preferred,other\na,new,old\na,new,old\nb,old,new\n")
        >>> candidate_csv(file).votes.tolist()
        [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
        >>> folder.cleanup()
    """
    names, rows, lines = read_rows(Path(file).expanduser())

    def column(argument: str, name: str) -> list[str]:
        check_column(argument, name, names, file)
        return read_cells(rows, lines, names.index(name), names, file)

    items, number = np.unique(column("item", item), return_inverse=True)
    winners, losers = column("preferred", preferred), column("other", other)
    for row, (one, two) in enumerate(zip(winners, losers, strict=True)):
        if one == two:
            raise ValueError(
                f"{file}: row {row} (line {lines[row]}) compares {shown(one)} with itself; drop it."
            )
    voters = column("voter", voter) if voter else ["all"] * len(rows)
    voter_names, voter_number = np.unique(voters, return_inverse=True)
    found: list[set[str]] = [set() for _ in items]
    for at, *both in zip(number, winners, losers, strict=True):
        found[at].update(both)
    candidates = tuple(tuple(sorted(each)) for each in found)
    place = [{name: at for at, name in enumerate(each)} for each in candidates]
    triples = [
        (at, place[at][one], place[at][two])
        for at, one, two in zip(number, winners, losers, strict=True)
    ]
    known = None if best is None else np.full(len(items), -1, np.int32)
    for row, name in enumerate(column("best", best) if best else ()):
        at = number[row]
        if name not in place[at] or known[at] not in (-1, place[at][name]):
            raise ValueError(
                f"{file}: column {best} must name one candidate of an item, the same in all of its "
                f"rows; row {row} (line {lines[row]}) has {shown(name)} of "
                f"{shown(', '.join(candidates[at]))}."
            )
        known[at] = place[at][name]
    return CandidateVotes(
        np.array(triples, np.int32),
        voter_number.astype(np.int32),
        tuple(items.tolist()),
        tuple(voter_names.tolist()),
        candidates,
        known,
    )


def generated_candidates(
    rng: np.random.Generator,
    *,
    num_items: int = 500,
    num_candidates: int = 4,
    num_voters: int = 20,
    votes: int = 3,
) -> CandidateVotes:
    """Votes of generated voters on candidates in a random order of merit.

    A fifth of the voters guess; the others prefer the better of two candidates with a probability
    of their own, from 0.6 to 0.95, whatever the two are. They stand in where there are no real
    voters, and say nothing of people.

    Args:
        rng: draws orders, voters and votes.
        num_items: N.
        num_candidates: C, of each item.
        num_voters: J.
        votes: on each pair of candidates of an item, by as many voters.

    Returns:
        The `CandidateVotes`, with the best candidates and the skills.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> found = generated_candidates(np.random.default_rng(0), num_items=5, num_candidates=2)
        >>> found.votes.shape, found.best.shape, found.skills.shape
        ((15, 3), (5,), (20,))
    """
    check_generator("rng", rng)
    check_integer("num_items", num_items)
    check_integer("num_candidates", num_candidates, at_least=2)
    check_integer("num_voters", num_voters)
    check_integer("votes", votes, at_most=num_voters)
    merit = rng.random((num_items, num_candidates)).argsort(1)
    guesses = rng.random(num_voters) < 0.2
    skills = np.where(guesses, 0.5, rng.uniform(0.6, 0.95, num_voters))
    pairs = np.stack(np.triu_indices(num_candidates, 1), 1)
    item = np.repeat(np.arange(num_items), len(pairs) * votes)
    one, two = np.tile(np.repeat(pairs, votes, 0), (num_items, 1)).T
    chosen = rng.random((num_items * len(pairs), num_voters)).argsort(1)[:, :votes]
    voter = chosen.ravel()
    right = rng.random(len(voter)) < skills[voter]
    first = (merit[item, one] > merit[item, two]) == right
    triples = np.stack([item, np.where(first, one, two), np.where(first, two, one)], 1)
    names = tuple(tuple(map(str, range(size))) for size in (num_items, num_voters, num_candidates))
    return CandidateVotes(
        triples.astype(np.int32),
        voter.astype(np.int32),
        names[0],
        names[1],
        (names[2],) * num_items,
        merit.argmax(1).astype(np.int32),
        skills,
    )
