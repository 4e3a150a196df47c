"""Labels of annotators from files, and generated ones."""

import numpy as np
import pytest

from lnl_jax import data

LINES = """item,annotator,label,truth
b,zoe,10,2
b,ann,2,2
a,ann,10,10
c,zoe,2,10
"""
FEATURES = """item,width,height
c,5,6
a,1,2
b,3,4
d,7,8
"""


def written(folder, lines=LINES, name="labels.csv"):
    file = folder / name
    file.write_text(lines)
    return file


def test_names_are_numbered_in_their_order(tmp_path):
    features = written(tmp_path, FEATURES, "features.csv")
    crowd = data.crowd_csv(written(tmp_path), truth="truth", features=features)
    # Classes are whole numbers, which are sorted by size.
    assert crowd.class_names == ("2", "10")
    assert crowd.item_names == ("a", "b", "c")
    assert crowd.annotator_names == ("ann", "zoe")
    assert crowd.annotations.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 1], [2, 1, 0]]
    assert crowd.truth.tolist() == [1, 0, 1]
    assert crowd.x.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_class_that_nobody_gave_is_one_by_the_truth(tmp_path):
    crowd = data.crowd_csv(written(tmp_path, LINES.replace("2,10", "2,11")), truth="truth")
    assert crowd.class_names == ("2", "10", "11")


REFUSED = {
    "a misspelt column": (
        {"lines": LINES.replace("annotator", "anotator")},
        "annotator: .*labels.csv has no column 'annotator'; did you mean anotator",
    ),
    "another case": ({"lines": LINES.replace("label", "Label", 1)}, "did you mean Label?"),
    "a column of no likeness": ({"item": "x"}, "item: .*no column 'x'; it has item, annotator"),
    "an empty label": (
        {"lines": LINES.replace("a,ann,10", "a,ann,")},
        "column label is empty in 1 of 4 rows, the first is row 2",
    ),
    "a line that is too short": (
        {"lines": LINES + "d,zoe\n"},
        r"row 4 \(line 6\) has 2 fields, not the 4",
    ),
    "no lines": (
        {"lines": "item,annotator,label\n"},
        "labels.csv has no rows",
    ),
    "truths in another way": (
        {"lines": LINES.replace(",2\n", ",two\n").replace(",10\n", ",ten\n"), "truth": "truth"},
        "truth: .*labels.csv: no class of it is one of column label, got two and 10 in row 0",
    ),
    "two truths": (
        {"lines": LINES.replace("ann,2,2", "ann,2,10"), "truth": "truth"},
        r"truth must be the same in all rows of an item; row 0 \(line 2\) has another for b",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_is_refused_in_a_line(tmp_path, case):
    settings, message = REFUSED[case]
    settings = dict(settings)
    file = written(tmp_path, settings.pop("lines", LINES))
    with pytest.raises(ValueError, match=message):
        data.crowd_csv(file, **settings)


FEATURES_REFUSED = {
    "an item without features": (
        FEATURES.replace("a,1,2\n", ""),
        "no row of 1 of 3 items.*first.*a",
    ),
    "an item twice": (FEATURES + "a,1,1\n", "several rows of the item a"),
    "a word": (
        FEATURES.replace("a,1,2", "a,wide,2"),
        "column width holds 'wide', no number; repair",
    ),
    "an infinite number": (
        FEATURES.replace("a,1,2", "a,inf,2"),
        "column width holds 'inf', no finite number",
    ),
    "no features": ("item\na\nb\nc\n", "no column of features"),
}


@pytest.mark.parametrize("case", FEATURES_REFUSED)
def test_features_that_do_not_fit_are_refused_in_a_line(tmp_path, case):
    lines, message = FEATURES_REFUSED[case]
    features = written(tmp_path, lines, "features.csv")
    with pytest.raises(ValueError, match=message):
        data.crowd_csv(written(tmp_path), features=features)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.csv"):
        data.crowd_csv(tmp_path / "nowhere.csv")


def test_an_npz_may_hold_counts_of_words(tmp_path):
    np.savez(
        tmp_path / "words.npz",
        annotations=np.array([[0, 0, 1], [1, 0, 0], [1, 1, 0]]),
        y_train=np.array([1, 0], np.uint8),
        bow_indptr_train=np.array([0, 2, 3]),
        bow_indices_train=np.array([0, 3, 1], np.uint16),
        bow_counts_train=np.array([1, 2, 5], np.uint8),
        bow_indptr_test=np.array([0, 1]),
        bow_indices_test=np.array([4], np.uint16),
        bow_counts_test=np.array([7], np.uint8),
        y_test=np.array([1], np.uint8),
    )
    crowd = data.crowd_npz(tmp_path, name="words")
    assert crowd.x.tolist() == [[1, 0, 0, 2, 0], [0, 5, 0, 0, 0]]
    assert crowd.tests["test"]["x"].tolist() == [[0, 0, 0, 0, 7]]
    assert crowd.truth.tolist() == [1, 0]


def test_an_npz_that_does_not_fit_is_refused_in_a_line(tmp_path):
    np.savez(tmp_path / "none.npz", y=np.zeros(3, int))
    with pytest.raises(ValueError, match="none.npz: it must hold annotations.*it has y"):
        data.crowd_npz(tmp_path, name="none")
    np.savez(tmp_path / "short.npz", annotations=[[0, 0, 1], [2, 1, 0]], y=np.zeros(2, int))
    with pytest.raises(ValueError, match=r"short.npz: y must be of 3 items, got 2"):
        data.crowd_npz(tmp_path, name="short")
    np.savez(tmp_path / "below.npz", annotations=[[0, 0, -1], [1, 1, 0]])
    with pytest.raises(ValueError, match=r"below.npz: annotations\[:, 2\] must be at least 0"):
        data.crowd_npz(tmp_path, name="below")
    np.savez(tmp_path / "halves.npz", annotations=[[0, 0, 0.5], [1, 1, 0]])
    with pytest.raises(ValueError, match=r"halves.npz: .*integers .* has float64 of shape \(2, 3"):
        data.crowd_npz(tmp_path, name="halves")


def test_a_generated_crowd_is_better_than_chance_and_guesses_too():
    crowd = data.generated_crowd(np.random.default_rng(0))
    item, annotator, label = crowd.annotations.T
    assert len({*zip(item.tolist(), annotator.tolist(), strict=True)}) == len(item)
    assert set(np.bincount(item)) == {5}
    right = label == crowd.truth[item]
    of_annotator = np.bincount(annotator, right) / np.bincount(annotator)
    assert of_annotator.min() < 0.2 < 0.7 < of_annotator.max()
    assert set(crowd.tests["test"]["label"]) == set(range(10))
    moved = crowd.tests["moved"]["x"].reshape(-1, 8, 8)
    pixels = crowd.tests["test"]["x"].reshape(-1, 8, 8)
    np.testing.assert_array_equal(moved[..., 1:], (pixels[..., 1:] + pixels[..., :-1]) / 2)


@pytest.mark.parametrize("settings", [{"num_items": 5}, {"num_annotators": 1}, {"labels": 41}])
def test_a_generated_crowd_has_its_bounds(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        data.generated_crowd(np.random.default_rng(0), **settings)
