"""Test sets whose labels were looked at again: what was given, what is right, what people say."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnl_jax import data, label_models, noise
from lnl_jax.comparison.cross_validation import read_inputs
from lnl_jax.data.npz import read_arrays


class CorrectedTest(NamedTuple):
    """Training and test examples, of the latter the labels twice.

    Attributes:
        x: features of all, training before test, float32, ``[N, D]``.
        label: as given, int32, ``[N]``.
        train: the rows of the training part.
        test: the rows of the J test examples.
        corrected: the right class of each test example, int32, ``[J]``; -1 where no single one is.
        people: the shares of the classes that people gave, float64, ``[J, K]``; None where not
            known.
        num_classes: K.
    """

    x: np.ndarray
    label: np.ndarray
    train: np.ndarray
    test: np.ndarray
    corrected: np.ndarray
    people: np.ndarray | None
    num_classes: int

    @property
    def given(self) -> np.ndarray:
        """The labels of the test examples, ``[J]``."""
        return self.label[self.test]

    @property
    def wrong(self) -> np.ndarray:
        """Which test labels are wrong and have a right class, boolean, ``[J]``."""
        return (self.corrected >= 0) & (self.corrected != self.given)

    @property
    def right(self) -> np.ndarray:
        """Which test labels are right, boolean, ``[J]``."""
        return self.corrected == self.given


def digits_with_wrong_tests(rates: tuple[float, float], seed: int) -> CorrectedTest:
    """Half of scikit-learn's digits to train and half to test on, some labels the next class.

    Args:
        rates: shares of the labels that become the next class, in training and test part.
        seed: of the split and the labels.

    Returns:
        The `CorrectedTest`.
    """
    train, test = data.hold_out(data.digits(), 0.5, np.random.default_rng(seed))
    parts = train["x"], train["label"], test["x"], test["label"]
    return _joined(*parts, test["label"], None, 10, rates, seed)


def corrected_test_npz(
    data_dir: str,
    name: str,
    *,
    corrections: str | None,
    people: str | None = None,
    rates: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
) -> CorrectedTest:
    """A set of ``DIR/NAME.npz``, with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    Args:
        data_dir: DIR.
        name: NAME.
        corrections: an array of the file with the right classes, ``[J]``, -1 where no single one
            is, or with counts of people's labels, ``[J, K]``, of which the most frequent is right;
            or ``FILE/SET`` for the votes of reviewers, arrays ``SET_id`` (of ``idx_test``),
            ``SET_given``, ``SET_guess`` and ``SET_votes`` of ``DIR/FILE.npz``, as
            `label_models.reviewed_labels` takes them, labels that are not among them being right.
            None takes all for right, and makes some wrong.
        people: an array of the file with such counts.
        rates: shares of the labels that become the next class where `corrections` is None.
        seed: of these.

    Returns:
        The `CorrectedTest`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if an array is missing or does not fit; names it.
    """
    splits = data.load_npz(data_dir, name)
    path, arrays = read_arrays(data_dir, name, "x_train, y_train, x_test, y_test")
    both = []
    for part in (splits.train, splits.test):
        # Images are read as load_npz gives them, with a channel.
        both += [part["image" if "image" in part else "x"], part["label"]]
    given, classes = np.int32(both[-1]), splits.num_classes
    shares = None
    if people is not None:
        counts = _counts(arrays, "people", people, path, classes)
        shares = counts / counts.sum(1, keepdims=True)
    if corrections is None:
        return _joined(*both, given, shares, classes, rates, seed)
    if "/" in corrections:
        corrected = _reviewed(corrections, data_dir, arrays, given, path)
    elif np.ndim(arrays.get(corrections)) == 2:
        corrected = _counts(arrays, "corrections", corrections, path, classes).argmax(1)
    else:
        corrected = _classes(arrays, corrections, path, len(given), classes)
    return _joined(*both, np.int32(corrected), shares, classes)


def _joined(x, label, test_x, test_label, corrected, people, num_classes, rates=None, seed=0):
    labels = [label, test_label]
    if rates is not None:
        rng = np.random.default_rng(seed + 1)
        labels = [
            noise.corrupt(one, noise.pairflip(num_classes, rate), rng).labels
            for one, rate in zip(labels, rates, strict=True)
        ]
    features = np.concatenate([read_inputs(x), read_inputs(test_x, like=x)])
    train, test = np.split(np.arange(len(features)), [len(label)])
    label = np.int32(np.concatenate(labels))
    return CorrectedTest(features, label, train, test, corrected, people, num_classes)


def _array(arrays: dict, argument: str, name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        has = ", ".join(sorted(arrays))
        raise ValueError(f"{argument}: {path} has no array {name}; it has {has}.")
    return arrays[name]


def _classes(arrays: dict, name: str, path: Path, size: int, num_classes: int) -> np.ndarray:
    found = _array(arrays, "corrections", name, path)
    whole = found.shape == (size,) and found.dtype.kind in "iu"
    bad = np.flatnonzero((found < -1) | (found >= num_classes)) if whole else ()
    if not whole or len(bad):
        got = f"{found[bad[0]]} in row {bad[0]}" if whole else f"{found.dtype} of {found.shape}"
        raise ValueError(
            f"corrections: {name} of {path} must hold a class from 0 to {num_classes - 1} for each "
            f"of {size} test examples, or -1; got {got}."
        )
    if (found == -1).all():
        raise ValueError(f"corrections: {name} of {path} is -1, no class, for every test example.")
    return found


def _counts(arrays: dict, argument: str, name: str, path: Path, num_classes: int) -> np.ndarray:
    found = np.asarray(_array(arrays, argument, name, path), np.float64)
    shape = (len(arrays["y_test"]), num_classes)
    if found.shape != shape or not (found >= 0).all() or not found.sum(1).all():
        raise ValueError(
            f"{argument}: {name} of {path} must count the labels of each test example by class, "
            f"shape {shape}, none without a label; got the shape {found.shape}."
        )
    return found


def _reviewed(
    corrections: str, data_dir: str, arrays: dict, given: np.ndarray, path: Path
) -> np.ndarray:
    """What reviewers made of suspected labels; those that nobody suspected stay."""
    file, _, prefix = corrections.partition("/")
    keys = ("id", "given", "guess", "votes")
    place, votes = read_arrays(data_dir, file, ", ".join(f"{prefix}_{key}" for key in keys))
    rows, was, guess, answers = (
        _array(votes, "corrections", f"{prefix}_{key}", place) for key in keys
    )
    reviewed = label_models.reviewed_labels(was, guess, answers)
    index = arrays.get("idx_test", np.arange(len(given)))
    row_of = {int(original): row for row, original in enumerate(index)}
    if not row_of.keys() & {int(original) for original in rows}:
        raise ValueError(
            f"corrections: none of the {len(rows)} examples in {prefix}_id of {place} is among the "
            f"test examples of {path}; their numbers there are idx_test, or those of the rows."
        )
    right = given.copy()
    for original, label, found in zip(rows, was, reviewed.labels, strict=True):
        row = row_of.get(int(original))
        if row is None:
            continue
        if given[row] != label:
            raise ValueError(
                f"corrections: {place} is of another set: test example {original} is labelled "
                f"{label} there, and {given[row]} in {path}."
            )
        right[row] = found
    return right
