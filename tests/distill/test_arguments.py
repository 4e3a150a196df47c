"""What distillation is asked for that makes no sense: each is refused, with what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lnl_jax import distill

NAN, INF = float("nan"), float("inf")
GEOMETRY = {"count": 8, "batch_size": 4, "size": (8, 8)}
IMAGES, LABELS = np.zeros((6, 4, 4, 1), np.float32), np.arange(6) % 2
RECORDS = np.zeros((2, 3, 4))
TOP = distill.labels.keep_top(jnp.ones((2, 4)), 2)
RNG = np.random.default_rng(0)
SCORES = dict.fromkeys(("real_hard", "synthetic_hard", "synthetic_any", "random_any"), 0.5)
PLAIN = dict.fromkeys(
    ("synthetic_augmented", "random_augmented", "synthetic_plain", "random_plain"), 0.5
)
MOMENTS = [(jnp.zeros(2), jnp.ones(2))]
WORDS = jnp.zeros((3, 4))


def geometry(**changes):
    return distill.labels.draw_geometry(**{"seed": 0, "step": 0} | GEOMETRY | changes)


def sizes(**changes):
    return distill.ledger.label_bytes(**{"images": 1, "epochs": 1, "classes": 2} | changes)


def patches(**changes):
    arguments = {"images": IMAGES, "labels": LABELS, "per_class": 1, "key": jax.random.key(0)}
    return distill.images.patch_selection(lambda images, labels: labels, **arguments | changes)


def recovered(**changes):
    return distill.images.recover(
        lambda images, key, step: images.sum(), (1, 2, 2, 1), jax.random.key(0), **changes
    )


def combined(difficulty=LABELS, factor=1):
    return distill.images.prune_and_combine(difficulty, IMAGES, LABELS, 1, factor=factor)


def calibrated(labels=LABELS[:2], **changes):
    return distill.labels.ferkd_targets(jnp.ones((2, 3)) / 3, labels, **changes)


def projector(**changes):
    return distill.projectors.init_projector(
        jax.random.key(0), {}, **{"words": WORDS, "ranks": {}, "head_rank": None} | changes
    )


REFUSED = {
    "a seed of more than 32 bits": (lambda: geometry(seed=2**32), "seed must be an integer from 0"),
    "a seed of 1e30": (lambda: geometry(seed=1e30), "seed must be an integer from 0 to 4294967295"),
    "a step before the first": (lambda: geometry(step=-1), "step must be an integer from 0 on"),
    "no images": (lambda: geometry(count=0), "count must be an integer from 1 on"),
    "a larger batch": (lambda: geometry(batch_size=9), "batch_size must be an integer from 1 to 8"),
    "an image of no height": (lambda: geometry(size=(0, 8)), "size: the height must be an integer"),
    "crops of no area": (lambda: geometry(min_area=0), "min_area must be above 0 and at most 1"),
    "mixing by nan": (lambda: geometry(alpha=NAN), "alpha must be at least 0"),
    "mixing by infinity": (lambda: geometry(alpha=INF), "alpha must be at least 0 and finite"),
    "flips beyond 1": (lambda: geometry(flip_rate=1.5), "flip_rate must be at least 0 and at most"),
    "labels of floats": (
        lambda: distill.labels.mixed_labels(jnp.ones(8), None, num_classes=2),
        "labels must be integers",
    ),
    "no classes": (
        lambda: distill.labels.mixed_labels(LABELS, geometry(), num_classes=0),
        "num_classes must be an integer from 1",
    ),
    "smoothing by nan": (
        lambda: distill.labels.hard_labels(smoothing=NAN),
        "smoothing must be at least 0 and at most 1",
    ),
    "a step that is not stored": (
        lambda: distill.labels.stored_labels(jnp.ones((2, 3, 4)))({"step": 2}),
        "step must be an integer from 0 to 1, got 2",
    ),
    "stored classes": (
        lambda: distill.labels.stored_labels(jnp.ones((2, 3, 4), int)),
        r"logits must be floating of shape \[steps, B, K\], got int32",
    ),
    "more soft steps than steps": (
        lambda: distill.labels.scheduled_labels(None, None, None, soft=3, total=2),
        "soft must be an integer from 0 to 2",
    ),
    "no place to keep": (
        lambda: distill.labels.keep_top(WORDS, 0),
        "k must be an integer from 1 to the",
    ),
    "fewer classes than kept": (
        lambda: distill.labels.complete_logit_fill(TOP, num_classes=1),
        "num_classes must be an integer from 2 on, got 1",
    ),
    "hard labels of fewer classes": (
        lambda: distill.labels.complete_hard(TOP, num_classes=1),
        "num_classes must be an integer from 2 on",
    ),
    "classes of floats": (
        lambda: distill.labels.complete_smoothing(
            TOP._replace(classes=jnp.ones((2, 2))), num_classes=4
        ),
        "top must hold an integer class for each",
    ),
    "bytes of classes": (
        lambda: distill.labels.quantize(jnp.ones(3, int)),
        "logits must be floating",
    ),
    "negative classes": (lambda: distill.labels.index_dtype(-1), "num_classes must be an integer"),
    "one in no steps": (lambda: distill.labels.pool_steps(10, 0), "keep must be an integer from 1"),
    "half a step": (lambda: distill.labels.pool_steps(0.5, 1), "steps must be an integer from 1"),
    "an empty pool": (
        lambda: distill.labels.pooled_step(0, 0, 0),
        "pool must be an integer from 1",
    ),
    "thresholds of nan": (lambda: calibrated(thresholds=(0, NAN, 1)), "ascend from 0 to 1"),
    "two thresholds": (lambda: calibrated(thresholds=(0, 1)), "must be three that ascend"),
    "context beyond 1": (lambda: calibrated(context_smoothing=2), "context_smoothing must be"),
    "a column of labels": (
        lambda: calibrated(jnp.zeros((2, 1), int)),
        r"labels must be integers of shape \(2,\).*drop the last axis",
    ),
    "sizes of halves": (lambda: sizes(images=0.5), "images must be an integer from 1"),
    "no epochs": (lambda: sizes(epochs=0), "epochs must be an integer from 1"),
    "one in no labels": (lambda: sizes(keep=0), "keep must be an integer from 1"),
    "more kept than classes": (
        lambda: distill.ledger.top_label_bytes(1, 1, 2, 3),
        "k must be an integer from 1 to 2",
    ),
    "geometry of no images": (
        lambda: distill.ledger.geometry_bytes(0, 1),
        "images must be an integer",
    ),
    "against nothing": (
        lambda: distill.ledger.ledger_table([], against=0),
        "against must be an integer",
    ),
    "bytes below nothing": (
        lambda: distill.ledger.readable_size(-1),
        "count must be an integer from 0",
    ),
    "ratios to nothing": (
        lambda: distill.ledger.claimed_ratios(1, 0),
        "labels must be an integer from 1",
    ),
    "a weight of nan": (
        lambda: distill.ledger.label_robust_score(**SCORES, weight=NAN),
        "weight must be at least 0 and at most 1",
    ),
    "a weight beyond 1": (
        lambda: distill.ledger.augmentation_robust_score(**PLAIN, weight=2),
        "weight must be at least 0 and at most 1",
    ),
    "no steps of recovery": (lambda: recovered(steps=0), "steps must be an integer from 1"),
    "a negative rate": (lambda: recovered(learning_rate=-1.0), "learning_rate must be above 0"),
    "a rate of nan": (lambda: recovered(learning_rate=NAN), "learning_rate must be above 0"),
    "no room for pixels": (lambda: recovered(low=1.0, high=0.0), "low must be below high, got 1"),
    "another start": (lambda: recovered(start=jnp.ones(3)), r"start must have the shape \(1, 2"),
    "an update in half a step": (
        lambda: distill.images.image_update(lambda x: x, IMAGES, steps=0.5),
        "steps must be an integer from 0",
    ),
    "an update by a third": (
        lambda: distill.images.image_update(lambda x: x, IMAGES, factor=3),
        "factor must divide the sides 4 and 4, got 3",
    ),
    "no statistics": (
        lambda: distill.images.batch_norm_gap([], []),
        "the same normalisations, one at",
    ),
    "statistics of others": (
        lambda: distill.images.batch_norm_gap(MOMENTS, [(jnp.zeros(3), jnp.ones(3))]),
        r"got the shapes \[\(\(2,\), \(2,\)\)\] and \[\(\(3,\), \(3,\)\)\]",
    ),
    "a gap of nan": (
        lambda: distill.images.batch_norm_gap(MOMENTS, MOMENTS, first_weight=NAN),
        "first_weight must be at least 0",
    ),
    "no image of a class": (
        lambda: distill.images.random_images(LABELS, 0, RNG),
        "per_class must be an integer from 1",
    ),
    "images of no class": (
        lambda: distill.images.random_images(LABELS - 1, 1, RNG),
        "labels must be at",
    ),
    "a label short": (lambda: patches(labels=LABELS[:-1]), "one entry per example, 6, got 5"),
    "grids of nothing": (lambda: patches(factor=0), "factor must be an integer from 1"),
    "no crops": (lambda: patches(crops=0), "crops must be an integer from 1"),
    "no pool": (lambda: patches(pool=0), "pool must be an integer from 1"),
    "crops beyond the image": (lambda: patches(min_area=1.5), "min_area must be above 0 and at mo"),
    "losses of nan": (lambda: distill.images.ranked_crops(np.array([[1.0, NAN]])), "with 1 NaN"),
    "zeros around nothing": (
        lambda: distill.images.on_zeros(IMAGES, 0),
        "factor must be an integer",
    ),
    "too few patches": (
        lambda: distill.images.stitch(IMAGES, 2, 2),
        r"patches must have the shape \[8, h, w, C\], got \(6, 4, 4, 1\)",
    ),
    "no tiles": (
        lambda: distill.images.tile_boxes(jax.random.key(0), jnp.zeros((1, 4)), factor=0),
        "factor must be an integer from 1",
    ),
    "difficulty of nan": (lambda: combined(np.full(6, NAN)), "with 6 NaN"),
    "difficulty of others": (lambda: combined(np.zeros(5)), r"difficulty must be numbers of shape"),
    "tiles of a third": (lambda: combined(factor=3), "factor must divide the sides"),
    "infinite gains": (
        lambda: distill.selection.query_weights(np.array([1, INF]), 0),
        "gains must be .*above 0",
    ),
    "gains beyond 1": (
        lambda: distill.selection.query_weights_with_cost(np.array([1.5, 1]), 0),
        "gains must be .*at most 1",
    ),
    "half a wrong label": (
        lambda: distill.selection.query_weights(np.ones(3), 0.5),
        "wrong must be an integer from 0 to 2",
    ),
    "negative weights": (
        lambda: distill.selection.inclusion_probabilities(np.array([-1.0, 1]), 1),
        "weights must be .*at le",
    ),
    "half a budget": (
        lambda: distill.selection.inclusion_probabilities(np.ones(3), 1.5),
        "budget must be an integer from 1",
    ),
    "chances of nan": (
        lambda: distill.selection.systematic_sample(np.array([NAN, 1]), RNG),
        "inclusion must be",
    ),
    "records of two axes": (
        lambda: distill.selection.el2n(RECORDS[0], LABELS[:3]),
        r"probabilities must have the shape \[T, N, K\].*\(3, 4\)",
    ),
    "the last class for -1": (
        lambda: distill.selection.el2n(RECORDS, np.array([-1, 0, 1])),
        "labels must be from 0 to 3",
    ),
    "a column of classes": (
        lambda: distill.selection.el2n(RECORDS, np.zeros((3, 1), int)),
        r"labels must be integers of shape \[N\]",
    ),
    "probabilities of nan": (
        lambda: distill.selection.el2n(RECORDS + NAN, LABELS[:3]),
        "probabilities must be finite",
    ),
    "all are hardest": (
        lambda: distill.selection.coverage_sample(np.ones(4), 1, RNG, hardest=1.0),
        "hardest must be at least 0 and below 1",
    ),
    "no strata": (
        lambda: distill.selection.coverage_sample(np.ones(4), 1, RNG, strata=0),
        "strata must be an integer from 1",
    ),
    "difficulties of nan": (
        lambda: distill.selection.coverage_sample(np.full(4, NAN), 1, RNG),
        "difficulty must be",
    ),
    "a head of rank 1e9": (
        lambda: projector(head_rank=10**9),
        "head_rank must be an integer from 1 to 4, got 1000000000",
    ),
    "a scale of nan": (lambda: projector(scale=NAN), "scale must be above 0"),
    "words of integers": (lambda: projector(words=jnp.ones((3, 4), int)), "words must be floating"),
    "shapes of no features": (
        lambda: distill.projectors.projector_shapes({}, {}, dim=0, num_classes=2, head_rank=None),
        "dim must be an integer from 1",
    ),
    "a teacher too many": (
        lambda: distill.projectors.weak_targets(jnp.ones((2, 3, 4)), weights=jnp.ones(3)),
        "weights must have one entry per teacher",
    ),
    "a teacher against": (
        lambda: distill.projectors.weak_targets(jnp.ones((2, 3, 4)), weights=np.array([-1.0, 2])),
        "weights must be at least 0",
    ),
    "labels that a file does not keep": (
        lambda: distill.labels.encode_labels({"logits": jnp.ones(3, jnp.bfloat16)}, {}),
        "logits is of bfloat16, which the file does not keep; cast it to float16 or float32",
    ),
    "labels that would be pickled": (
        lambda: distill.labels.encode_labels({"names": np.array([object()])}, {}),
        "names is of object, which the file does not keep",
    ),
    "a mark that is no JSON": (
        lambda: distill.labels.encode_labels({}, {"seed": object()}),
        "belongs_to must hold JSON values",
    ),
    "a mark of other labels": (
        lambda: distill.labels.label_fingerprint(IMAGES, LABELS[:-1], seed=0, geometry=""),
        "labels must have one entry per image, 6, got 5",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_with_what_to_do(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_label_that_is_no_class_shows_as_nan():
    wrong = jnp.array([0, -1, 3, 1])
    drawn = jax.jit(lambda step: geometry(step=step, count=4, alpha=0.0))(jnp.int32(0))
    mixed = distill.labels.mixed_labels(wrong, drawn, num_classes=3)
    expected = np.isin(np.asarray(drawn.rows), [1, 2])
    np.testing.assert_array_equal(np.isnan(mixed).all(1), expected)
    np.testing.assert_array_equal(np.isnan(mixed).any(1), expected)
    targets = distill.labels.ferkd_targets(jnp.full((4, 3), 0.5), wrong)
    np.testing.assert_array_equal(np.isnan(targets).any(1), [False, True, True, False])


def test_a_traced_step_without_labels_gives_nan_and_not_the_nearest():
    logits = jnp.arange(2.0)[:, None, None]
    found = jax.vmap(lambda step: distill.labels.stored_labels(logits)({"step": step})[0, 0])
    np.testing.assert_array_equal(found(jnp.arange(-1, 3)), [np.nan, 0, 1, np.nan])


def test_logits_beyond_float16_come_back_as_nan():
    rows = jnp.array([[-1e5, 0.0], [1.0, -jnp.inf], [2.0, 1.0]])
    found = distill.labels.dequantize(distill.labels.quantize(rows))
    np.testing.assert_array_equal(np.isnan(found).all(1), [True, True, False])


def test_labels_on_an_explicit_mesh_name_the_mesh_to_make():
    mesh = jax.make_mesh((2,), ("data",))
    split = jax.device_put(TOP, NamedSharding(mesh, PartitionSpec("data")))
    with pytest.raises(ValueError, match=r"Explicit axes; .*train\.data_mesh"):
        distill.labels.complete_logit_fill(split, num_classes=4)


# What the docstrings cite, by title: who wrote it.
AUTHORS = {
    "A Fast Knowledge Distillation Framework for Visual Recognition": "Shen and Xing",
    "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?": "Xiao and He",
    "Coverage-centric Coreset Selection for High Pruning Rates": "Zheng et al.",
    "DD-Ranking: Rethinking the Evaluation of Dataset Distillation": "Li et al.",
    "Deep Learning on a Data Diet": "Paul et al.",
    "Distilling the Knowledge in a Neural Network": "Hinton et al.",
    "FerKD: Surgical Label Adaptation for Efficient Distillation": "Shen",
    "LoRA: Low-Rank Adaptation of Large Language Models": "Hu et al.",
    "Robust Active Distillation": "Baykal et al.",
}


def test_papers_are_cited_with_their_authors():
    found = {}
    parts = [getattr(distill, part) for part in distill.__all__]
    for text in (getattr(part, name).__doc__ or "" for part in parts for name in part.__all__):
        text = " ".join(text.split())
        for title in AUTHORS:
            before, cited, _ = text.partition(f', "{title}"')
            found |= {title: before} if cited else {}
    assert found.keys() == AUTHORS.keys()
    wrong = {title for title, before in found.items() if not before.endswith(AUTHORS[title])}
    assert not wrong
