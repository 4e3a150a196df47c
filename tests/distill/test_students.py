"""Students: their objectives, labels made online as stored ones, several at a time."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from lnl_jax.distill import labels, networks

STEPS, BATCH, CLASSES = 5, 6, 4
KL = labels.Objective(kl=1.0, temperature=2.0)


class Flat(nn.Module):
    """A linear classifier of pixels."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


@pytest.fixture
def views(rng):
    pixels = rng.random((STEPS, BATCH, 3, 3, 1), np.float32)
    mixed = rng.dirichlet(np.ones(CLASSES), (STEPS, BATCH)).astype(np.float32)
    return labels.Views(pixels, mixed, None)


@pytest.fixture
def teacher(rng):
    kernel = 3 * rng.normal(size=(9, CLASSES)).astype(np.float32)
    return networks.scorer(Flat(), ({"Dense_0": {"kernel": kernel, "bias": np.ones(CLASSES)}}, {}))


def train(views, source, keys=(0, 1), rates=(0.1, 0.2), keep=(STEPS,)):
    return labels.train_students(
        Flat(),
        [jax.random.key(key) for key in keys],
        labels.view_batches(views),
        source,
        KL,
        image_shape=(3, 3, 1),
        learning_rates=rates,
        keep=keep,
    )


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_online_labels_teach_exactly_what_stored_ones_do(views, teacher):
    stored = labels.logits_of_all_steps(teacher, views.images)
    assert stored.dtype == np.float32
    by_hand = np.stack([np.asarray(teacher(each)) for each in views.images])
    np.testing.assert_array_equal(stored, by_hand)
    online = train(views, labels.model_labels(teacher))
    assert_same(online, train(views, labels.stored_labels(stored)))
    ((other, _),) = train(views, labels.stored_labels(stored[::-1]))
    assert np.abs(online[0][0][0]["Dense_0"]["kernel"] - other[0]["Dense_0"]["kernel"]).max() > 0


def test_students_that_learn_together_end_as_they_would_alone(views, teacher):
    source = labels.model_labels(teacher)
    (both,) = train(views, source)
    for one, (key, rate) in enumerate(((0, 0.1), (1, 0.2))):
        assert_same(both[one], train(views, source, [key], [rate])[0][0])


def test_variables_are_kept_on_the_way_and_training_goes_on_from_them(views, teacher):
    source = labels.model_labels(teacher)
    kept = train(views, source, keep=(2, 3, STEPS))
    assert_same(kept[-1], train(views, source)[0])
    kernels = [of_step[0][0]["Dense_0"]["kernel"] for of_step in kept]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(kernels, kernels[1:], strict=False))


def test_a_live_source_is_asked_once_for_all_students_a_batch_ahead(views, teacher):
    asked = []

    def source(batch):
        assert all(isinstance(batch[name], jax.Array) for name in ("images", "mixed"))
        asked.append(batch["step"])
        return teacher(batch["images"])

    train(views, source)
    assert asked == list(range(STEPS))


class Linear:
    """A network whose scores are its parameters times the image's first pixels."""

    def apply(self, variables, images, train=False):
        return images @ variables["params"]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (labels.HARD, lambda z, t, m: -(m * np.log(softmax(z))).sum(-1)),
        (labels.Objective(kl=1.0, temperature=4.0), lambda z, t, m: 16 * kl(t / 4, z / 4)),
        (
            labels.Objective(mse=1.0, ce=0.1),
            lambda z, t, m: (
                ((z - t + t.mean(-1, keepdims=True)) ** 2).mean(-1)
                - 0.1 * (m * np.log(softmax(z))).sum(-1)
            ),
        ),
    ],
)
def test_objectives_are_their_formulas(objective, expected, rng):
    batch = {"images": rng.normal(size=(6, 3)), "targets": rng.normal(size=(6, 4))}
    batch["mixed"] = softmax(rng.normal(size=(6, 4)))
    batch = {name: values.astype(np.float32) for name, values in batch.items()}
    weights = rng.normal(size=(3, 4)).astype(np.float32)
    loss = labels.student_loss(Linear())
    found, _ = loss(objective, weights, {}, (), batch, None)
    wanted = expected(batch["images"] @ weights, batch["targets"], batch["mixed"])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(t, z):
    p, q = softmax(t), softmax(z)
    return (p * (np.log(p) - np.log(q))).sum(-1)


def test_students_of_all_learning_rates_are_measured_in_their_order(views, teacher):
    shown = []

    def measure(predicts):
        shown.extend(predicts)
        return [[index, 10 * index] for index in range(len(predicts))]

    found = labels.compare_students(
        Flat(),
        labels.view_batches(views),
        labels.model_labels(teacher),
        KL,
        measure,
        steps=STEPS,
        image_shape=(3, 3, 1),
        students=2,
        learning_rates=(0.1, 0.2),
    )
    assert found.tolist() == [[[0, 0], [1, 10]], [[2, 20], [3, 30]]]
    scores = [np.asarray(predict(views.images[0])) for predict in shown]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(scores, scores[1:], strict=False))


def test_stored_labels_of_a_pool_are_gone_through_again_and_again(views, teacher):
    geometry = np.zeros((STEPS, BATCH), np.float32)
    drawn = views._replace(geometry=_geometry(geometry))
    pixels, classes = np.zeros((BATCH, 3, 3, 1), np.uint8), np.arange(BATCH) % CLASSES
    belongs_to = {"pixels": pixels, "classes": classes, "seed": 3}
    whole, all_stored = labels.store_predictions(teacher, labels.half_form, drawn, **belongs_to)
    assert_same(whole, drawn)
    made = labels.logits_of_all_steps(teacher, views.images)
    np.testing.assert_array_equal(all_stored.logits, made.astype(np.float16))
    seen, pruned = labels.store_predictions(teacher, labels.half_form, drawn, keep=2, **belongs_to)
    assert len(pruned.file) < len(all_stored.file)
    again = [[np.array_equal(each, images) for each in views.images[:2]] for images in seen.images]
    order = np.array(again).argmax(1)
    assert np.array(again).any(1).all()
    np.testing.assert_array_equal(pruned.logits, all_stored.logits[order])


def test_labels_are_none_made_online_or_stored_by_what_is_asked_for(views, teacher):
    drawn = views._replace(geometry=_geometry(np.zeros((STEPS, BATCH), np.float32)))
    pixels, classes = np.zeros((BATCH, 3, 3, 1), np.uint8), np.arange(BATCH) % CLASSES
    belongs_to = {"pixels": pixels, "classes": classes, "seed": 3}
    assert labels.labelled_views(drawn, None, None, **belongs_to)[1:] == (None, b"")
    _, online, file = labels.labelled_views(drawn, teacher, None, **belongs_to)
    assert file == b""
    batch = next(iter(labels.view_batches(drawn)))
    wanted = np.asarray(teacher(batch["images"]))
    np.testing.assert_array_equal(online(batch), wanted)
    sizes = {}
    for form in labels.FORMS:
        _, stored, file = labels.labelled_views(drawn, teacher, form, **belongs_to)
        assert stored(batch).shape == wanted.shape
        sizes[form] = len(file)
    assert sizes["pruned"] < sizes["float16"]
    assert min(sizes.values()) > 0


def _geometry(values):
    return labels.Geometry(*(values for _ in labels.Geometry._fields))
