"""Labels made online: the numbers of stored ones, on the device, one batch ahead of the steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.augmented_views import Views
from experiments.descent import scorer
from experiments.distillation_parts import Parts
from experiments.hello_stages import empty_state, sources_of
from experiments.label_storage import live
from experiments.low_rank_projectors import (
    MAIN,
    Setting,
    initial_projector,
    projector_logits,
    to_float16,
)
from experiments.outputs import Resume
from experiments.shifted_foundation import initial_foundation, trained_in_place
from experiments.soft_label_students import (
    Objective,
    train_students,
    with_live_labels,
    with_stored_labels,
)

STEPS, BATCH, CLASSES = 5, 6, 4
KL = Objective(kl=1.0, temperature=2.0)


class Flat(nn.Module):
    """A linear classifier of pixels."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


@pytest.fixture
def views(rng):
    images = rng.random((STEPS, BATCH, 3, 3, 1), np.float32)
    mixed = rng.dirichlet(np.ones(CLASSES), (STEPS, BATCH)).astype(np.float32)
    return Views(images, mixed, None)


@pytest.fixture
def teacher(rng):
    kernel = 3 * rng.normal(size=(9, CLASSES)).astype(np.float32)
    return scorer(Flat(), ({"Dense_0": {"kernel": kernel, "bias": np.ones(CLASSES)}}, {}))


def trained(views, batches, keys=(0, 1), rates=(0.1, 0.2)):
    keys = [jax.random.key(key) for key in keys]
    ends, _ = train_students(Flat(), keys, batches, views, KL, learning_rates=rates)
    return ends


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_online_labels_teach_exactly_what_stored_ones_do(views, teacher):
    stored = live(teacher, views)
    assert stored.dtype == np.float32
    by_hand = np.stack([np.asarray(teacher(images)) for images in views.images])
    np.testing.assert_array_equal(stored, by_hand)
    online = trained(views, with_live_labels(views, teacher))
    assert_same(online, trained(views, with_stored_labels(views, stored)))
    others = trained(views, with_stored_labels(views, stored[::-1]))
    assert np.abs(online[0][0]["Dense_0"]["kernel"] - others[0][0]["Dense_0"]["kernel"]).max() > 0


def test_students_that_learn_together_end_as_they_would_alone(views, teacher):
    both = trained(views, with_live_labels(views, teacher))
    for one, (key, rate) in enumerate(((0, 0.1), (1, 0.2))):
        alone = trained(views, with_live_labels(views, teacher), [key], [rate])
        assert_same(both[one], alone[0])


def test_a_batch_gets_what_the_source_gave_and_stays_on_the_device(views, teacher):
    given = []

    def source(images):
        given.append(teacher(images))
        return given[-1]

    for step, batch in enumerate(with_live_labels(views, source)):
        assert len(given) == min(step + 2, STEPS)
        assert batch["targets"] is given[step]
        assert all(isinstance(values, jax.Array) for values in batch.values())
        np.testing.assert_array_equal(batch["images"], views.images[step])


@pytest.mark.slow
def test_no_source_of_labels_goes_by_the_host():
    images = np.zeros((20, 16, 16, 1), np.float32)
    part = {"image": images, "label": np.arange(20) % CLASSES}
    kinds = {"zero-shot": Setting(0, None), MAIN: Setting(2, 2)}
    maker, parts = trained_in_place(0, 1), Parts(part, part, part, CLASSES)
    sources = sources_of(empty_state(maker, parts, kinds, (1, 1, 1, 1, 2), 0, Resume()))
    assert set(sources) == {"teacher", "weak", "projector", "zero-shot"}
    for source in sources.values():
        # Traced images have no values that the host could look at.
        found = jax.eval_shape(source, jax.ShapeDtypeStruct((7, 16, 16, 1), np.float32))
        assert (found.shape, found.dtype) == ((7, CLASSES), np.float32)


@pytest.mark.slow
def test_in_bfloat16_the_tower_rounds_and_the_logits_are_float32(rng):
    foundation = initial_foundation(0, (16, 16, 1), CLASSES)
    projector = to_float16(initial_projector(foundation, Setting(2, 2), 0))
    images = rng.random((3, 16, 16, 1), np.float32)
    found = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        logits = projector_logits(foundation, projector, dtype=dtype)
        found[dtype] = logits(images)
        assert found[dtype].dtype == jnp.float32
    gap = np.abs(found[jnp.float32] - found[jnp.bfloat16]).max()
    assert 1e-4 < gap < 0.1 * np.abs(found[jnp.float32]).max()
