"""Projectors: trained on a frozen tower, stored in float16, read back from their files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.distill import projectors

CLASSES = 4
ADAPTATION = projectors.Adaptation(2, 3)


@pytest.fixture
def foundation(rng):
    shapes = jax.eval_shape(lambda: projectors.initial_foundation(0, (16, 16, 1), CLASSES))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 10, shapes)


def linear(params, images, dtype=jnp.float32):
    return images.reshape(len(images), -1).astype(dtype) @ params["fc1"]["kernel"]


@pytest.fixture
def small(rng):
    """A tower that is a matrix."""
    return projectors.Foundation(
        tower={"fc1": {"kernel": rng.normal(size=(9, 5)).astype(np.float32)}},
        words=rng.normal(size=(5, CLASSES)).astype(np.float32),
        scale=np.float32(10),
        encode=linear,
        targets="fc1/kernel$",
    )


@pytest.mark.slow
def test_an_adapter_comes_back_from_its_file(foundation, rng):
    start = projectors.initial_projector(foundation, ADAPTATION, 0)
    trained = jax.tree.map(
        lambda leaf: leaf + rng.normal(size=leaf.shape).astype(np.float32), start.adapter
    )
    stored = projectors.to_float16(projectors.TrainedProjector(trained, start.words))
    content = projectors.adapter_file(stored)
    again = projectors.read_adapter(content, foundation, ADAPTATION, seed=0)
    images = rng.random((3, 16, 16, 1), np.float32)
    expected = projectors.projector_predict(foundation, stored)(images)
    np.testing.assert_array_equal(projectors.projector_predict(foundation, again)(images), expected)
    plain = projectors.projector_predict(foundation, projectors.to_float16(start))(images)
    assert not np.allclose(plain, expected)


def test_the_file_of_another_adaptation_is_refused(small):
    content = projectors.adapter_file(projectors.initial_projector(small, ADAPTATION, 0))
    again = projectors.read_adapter(content, small, ADAPTATION, seed=0)
    assert again.adapter["head"]["a"].shape == (5, 3)
    with pytest.raises(ValueError, match="content must hold the 43 numbers of this adaptation"):
        projectors.read_adapter(content, small, projectors.Adaptation(1, 3), seed=0)


@pytest.mark.parametrize("adaptation", [ADAPTATION, projectors.Adaptation(0, None)])
def test_a_projector_follows_its_teacher_and_leaves_the_foundation_alone(small, adaptation, rng):
    images = rng.random((60, 8, 3, 3, 1), np.float32)
    teacher = rng.normal(size=(9, CLASSES)).astype(np.float32)
    targets = images.reshape(60, 8, 9) @ teacher
    batches = {"images": images, "targets": targets, "classes": targets.argmax(-1)}
    before = jax.tree.map(np.copy, small)
    found = projectors.train_projector(small, adaptation, batches, seed=0, learning_rate=0.05)
    jax.tree.map(np.testing.assert_array_equal, small, before)
    assert all(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(found.adapter))

    def error(projector):
        logits = projectors.projector_logits(small, projector)(images[0])
        gaps = logits - logits.mean(-1, keepdims=True)
        return np.square(gaps - (targets[0] - targets[0].mean(-1, keepdims=True))).mean()

    assert error(found) < 0.5 * error(projectors.zero_shot_projector(small))


def test_a_step_has_the_frozen_tower_as_an_argument_and_not_as_a_constant(small):
    from lnl_jax.distill import training

    step = training.step_with(lambda *arguments: None, {"tower": small.tower, "words": small.words})
    held = jax.tree.leaves(step)
    assert [leaf.shape for leaf in held] == [(9, 5), (5, CLASSES)]


def test_trainings_of_any_length_and_rate_share_one_program():
    from lnl_jax import train
    from lnl_jax.distill import training

    traced = []

    def loss(constants, params, extra, rows, batch, key):
        traced.append(1)
        return batch["x"] * params["w"], (extra, rows, {})

    ends = []
    for steps, rate in ((3, 0.1), (5, 0.2)):
        state = training.initial_state({"w": jnp.float32(0)}, learning_rate=rate, steps=steps)
        batches = {"x": np.ones((steps, 2), np.float32)}
        ((end,),) = training.train_in_turn(training.step_with(loss), [state], batches, keep=[steps])
        assert isinstance(end, train.TrainState)
        ends.append(float(end.params["w"]))
    # Adam's steps have the size of the rate, which falls along a cosine.
    cosines = [
        sum(r * (1 + np.cos(np.pi * t / n)) / 2 for t in range(n)) for n, r in ((3, 0.1), (5, 0.2))
    ]
    np.testing.assert_allclose(ends, -np.array(cosines), rtol=1e-5)
    assert len(traced) == 1


def test_ranks_that_are_wider_than_what_they_change_are_refused(small):
    projectors.check_ranks(small, 9, 5)
    with pytest.raises(ValueError, match="^rank must be at most 9, .* got 10"):
        projectors.check_ranks(small, 10, 5)
    with pytest.raises(ValueError, match="^head_rank must be at most 5, .* got 6"):
        projectors.check_ranks(small, 9, 6)


@pytest.mark.slow
def test_in_bfloat16_the_tower_rounds_and_the_logits_are_float32(rng):
    foundation = projectors.initial_foundation(0, (16, 16, 1), CLASSES)
    adaptation = projectors.Adaptation(2, 2)
    projector = projectors.to_float16(projectors.initial_projector(foundation, adaptation, 0))
    images = rng.random((3, 16, 16, 1), np.float32)
    found = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        logits = projectors.projector_logits(foundation, projector, dtype=dtype)
        found[dtype] = logits(images)
        assert found[dtype].dtype == jnp.float32
    gap = np.abs(found[jnp.float32] - found[jnp.bfloat16]).max()
    assert 1e-4 < gap < 0.1 * np.abs(found[jnp.float32]).max()
