"""Texts of classes and groups: where they come from, who has which, and what finds what."""

import jax
import numpy as np
import pytest

from lnl_jax import data
from lnl_jax.comparison import class_retrieval as retrieval
from lnl_jax.comparison.captioned_features import (
    CIFAR100_GROUPS,
    Captions,
    captions,
    draw_pairs,
)
from lnl_jax.data.image_sets import CIFAR100_CLASSES
from lnl_jax.runner import StudyError

LABELS = np.array([0, 1, 2, 3, 0, 1])
GROUPS = {"class_groups": np.array([1, 0, 1, 0]), "group_names": np.array(["fish", "birds"])}
NAMES = ("barn_owl", "trout", "gull", "carp")


def splits(extras=GROUPS, names=NAMES, **train):
    part = {"x": np.zeros((6, 2), np.float32), "label": LABELS, "index": np.arange(6)}
    return data.Splits(part | train, part, 4, names, extras=extras)


def counted(words, text):
    return [text.split().count(word) for word in words]


def test_texts_name_the_class_or_its_group_and_words_are_counted():
    templates = ("of {group}", "a {name}")
    found = captions(splits(), templates)
    texts = ["a barn owl", "a trout", "a gull", "a carp"]
    texts += ["of birds", "of fish", "of birds", "of fish"]
    texts += ["a photo of fish", "a photo of birds"]
    words = sorted({word for text in texts for word in text.split()})
    np.testing.assert_array_equal(found.text, [counted(words, text) for text in texts])
    # Those that name the class come first, and describe it alone.
    np.testing.assert_array_equal(found.classes, [[0], [1], [2], [3]])
    np.testing.assert_array_equal(found.own, [[label, 4 + label] for label in LABELS])
    np.testing.assert_array_equal(found.groups, [8, 9])
    np.testing.assert_array_equal(found.group_of, GROUPS["class_groups"])


def test_without_groups_their_templates_are_left_out():
    found = captions(splits(extras={}), ("a {name}", "a {name} of {group}", "of {group}"))
    assert (found.classes.shape, len(found.groups)) == ((4, 1), 0)


def test_features_of_texts_that_came_along_are_taken_as_they_are(rng):
    own, of_class, of_group = (rng.normal(size=(n, 3)).astype(np.float32) for n in (6, 4, 2))
    found = captions(
        splits(GROUPS | {"class_text": of_class, "group_text": of_group}, text=own), ()
    )
    np.testing.assert_array_equal(found.text[found.own[:, 0]], own)
    np.testing.assert_array_equal(found.text[found.classes[:, 0]], of_class)
    np.testing.assert_array_equal(found.text[found.groups], of_group)
    alone = captions(splits({}, (), text=own), ())
    means = np.stack([own[LABELS == label].mean(0) for label in range(4)])
    np.testing.assert_allclose(alone.text[alone.classes[:, 0]], means, rtol=1e-6)
    shared = captions(splits({"class_text": of_class}), ())
    np.testing.assert_array_equal(shared.text[shared.own[:, 0]], of_class[LABELS])


TEXT = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"names": ()}, "names no classes: put class_names"),
        ({"extras": {"class_text": TEXT[:3]}}, r"class_text must have the shape \[4, E\]"),
        ({"extras": {"class_text": TEXT * np.nan}}, "class_text must be finite; 12 values"),
        ({"extras": {"class_text": TEXT}, "text": np.zeros((6, 2))}, "must be of one width"),
        ({"extras": {"class_groups": np.array([0, 1])}}, "class_groups must be a number from 0 on"),
        ({"extras": GROUPS | {"group_names": ["fish"]}}, "group_names must name 2 groups, got 1"),
        ({"extras": GROUPS | {"class_text": TEXT, "group_text": TEXT}}, "group_text must have 2"),
        ({"text": np.array(list("abcdef"))}, "text_train must be a table of numbers"),
    ],
)
def test_names_and_texts_that_do_not_fit_are_refused_in_a_line(given, line):
    with pytest.raises(StudyError, match=line) as error:
        captions(splits(**given), ("a {name}",))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("templates", [(), ("a photo",), ("of {group}",), ("a {name}", "none")])
def test_templates_without_a_place_are_refused(templates):
    with pytest.raises(StudyError, match=r"templates must each have \{name\} or \{group\}"):
        captions(splits(), templates)


def test_groups_of_cifar_100_hold_each_class_once():
    members = [name for group in CIFAR100_GROUPS.values() for name in group.split()]
    assert sorted(members) == sorted(CIFAR100_CLASSES)
    assert {len(group.split()) for group in CIFAR100_GROUPS.values()} == {5}


def test_classes_of_a_draw_shrink_in_an_order_of_the_seed():
    labels = np.repeat(np.arange(4), [40, 50, 60, 40])
    texts = Captions(np.zeros((8, 1)), np.arange(8).reshape(4, 2)[labels], *np.zeros((3, 4, 1)))
    draws = [draw_pairs(labels, texts, 0.1, seed) for seed in range(4)]
    sizes = [np.bincount(one["label"]) for one in draws]
    assert all(sorted(one) == [4, 8, 18, 40] for one in sizes)
    assert len({tuple(one) for one in sizes}) > 1
    for one in draws:
        np.testing.assert_array_equal(labels[one["row"]], one["label"])
        np.testing.assert_array_equal(one["caption"] // 2, one["label"])
        assert set(one["caption"] % 2) == {0, 1}
        np.testing.assert_array_equal(one["index"], np.arange(len(one["row"])))
    np.testing.assert_array_equal(draw_pairs(labels, texts, None, 0)["row"], np.arange(190))


def test_ranks_count_the_wrong_ones_before_the_first_right_one(rng):
    labels = np.array([0, 1, 2, 2, 0, 1, 3, 3])
    texts = captions(splits(), ("a {name}", "the {name}"))
    image, text = rng.normal(size=(8, 5)), rng.normal(size=(len(texts.text), 5))
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
    pairs = retrieval.retrieval_pairs(labels, texts)
    rank_all = jax.jit(lambda *features: retrieval.retrieval_ranks(*features, pairs))
    found = rank_all(np.float32(image), np.float32(text))
    of_class = text[texts.classes].mean(1)
    of_class /= np.linalg.norm(of_class, axis=1, keepdims=True)

    def rank(similarities, right):
        return int((similarities[~right] >= similarities[right].max()).sum())

    groups = texts.group_of[labels]
    for to, of, keys, numbers in (
        (retrieval.TO_CLASS, retrieval.OF_CLASS, of_class, labels),
        (retrieval.TO_GROUP, retrieval.OF_GROUP, text[texts.groups], groups),
    ):
        scores = image @ keys.T
        expected = [
            rank(row, np.arange(len(keys)) == own) for row, own in zip(scores, numbers, strict=True)
        ]
        np.testing.assert_array_equal(found[to], expected)
        expected = [rank(row, numbers == own) for own, row in enumerate(scores.T)]
        np.testing.assert_array_equal(found[of], expected)


def test_a_class_without_test_images_is_found_after_all_of_them():
    texts = captions(splits(), ("a {name}",))
    pairs = retrieval.retrieval_pairs(np.array([0, 0, 1]), texts)
    rank_all = jax.jit(lambda *features: retrieval.retrieval_ranks(*features, pairs))
    found = rank_all(np.eye(3, dtype=np.float32), np.ones((len(texts.text), 3), np.float32))
    assert np.asarray(found[retrieval.OF_CLASS])[2:].tolist() == [3, 3]


def test_accuracy_is_told_by_thirds_of_the_classes_and_gains_are_over_the_best_of_clip():
    labels = np.stack([np.repeat(np.arange(3), [6, 3, 1]), np.repeat(np.arange(3), [1, 3, 6])])
    test = np.array([0, 0, 1, 1, 2, 2])
    rank = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]])
    temperature = np.where(labels == 0, 0.3, np.where(labels == 1, 0.2, 0.1))
    found = {
        ("clip", "temperature 0.1"): {retrieval.TO_CLASS: np.ones_like(rank)},
        ("clip", "temperature 0.2"): {retrieval.TO_CLASS: rank},
        ("isogclr", "rho 1"): {retrieval.TO_CLASS: 0 * rank, "first": temperature},
    }
    worst, best, last = retrieval.results_table(found, labels, test, 3)
    assert [best[f"{size} %"] for size in retrieval.SIZES] == [50, 50, 50]
    assert best["std of many %"] == pytest.approx(100 / 2**0.5)
    assert (worst["gain"], best["gain"], last["gain"]) == (-50, 0, 50)
    # With class size in one seed, against it in the other.
    assert last["spearman"] == pytest.approx(0)
    assert last["least spearman"] == pytest.approx(-1)
    assert (worst["spearman"], worst["temperature"]) == (None, None)
