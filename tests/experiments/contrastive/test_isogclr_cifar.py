import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.contrastive._shared import Lars
from experiments.contrastive.isogclr_cifar import isogclr_cifar
from lnl_jax import comparison, models
from lnl_jax.comparison.catalogue import shapes32
from lnl_jax.comparison.encoders import embed_views, lars
from lnl_jax.runner.outputs import Artifact, Checkpoint, Note, Resume
from tests.experiments.snapshots import on_the_host

TINY = {
    "dataset": functools.partial(shapes32, num_train=160, num_test=40),
    "model": functools.partial(models.resnet8, width=4),
    "imbalance": 0.2,
    "batch_size": 32,
    "projector_width": 16,
    "lars": Lars(0.3, 1),
}


def call(**arguments):
    """The rows, the checkpoints and the artifacts by name."""
    rows, states, artifacts = [], [], {}
    for output in isogclr_cifar(**TINY | arguments):
        if isinstance(output, dict):
            rows.append(output)
        elif isinstance(output, Checkpoint):
            states.append(on_the_host(output.state))
        elif isinstance(output, Artifact):
            artifacts[output.name] = output.value
        else:
            # Before anything is trained, and nothing where nothing is left to train.
            assert isinstance(output, Note)
            assert not rows
    return rows, states, artifacts


def test_only_kernels_are_decayed_and_rescaled():
    params = {"kernel": jnp.full((2, 2), 3.0), "scale": jnp.full(2, 3.0)}
    zero = jax.tree.map(jnp.zeros_like, params)
    tx = lars(optax.constant_schedule(1.0), 0.1)
    updates, _ = tx.update(zero, tx.init(params), params)
    assert (updates["scale"] == 0).all()
    # A step as long as a thousandth of the kernel, whatever the gradient.
    np.testing.assert_allclose(updates["kernel"], -0.003, rtol=1e-5)


@pytest.mark.slow
def test_views_differ_have_unit_norm_and_padding_enters_no_statistics(rng):
    network = models.ProjectedEncoder(models.ResNet(None, (), 4), models.ProjectionHead((8,), 8))
    image = jnp.asarray(rng.integers(0, 256, (6, 16, 16, 3)), jnp.uint8)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    mean, std = jnp.full(3, 0.5), jnp.full(3, 0.2)
    embed = jax.jit(embed_views(network, mean, std, padded=True))

    def of(image):
        batch = {"image": image, "mask": jnp.arange(6) < 4}
        return embed(variables["params"], variables["batch_stats"], batch, jax.random.key(1))

    views, stats = of(image)
    np.testing.assert_allclose(jnp.linalg.norm(views, axis=-1), 1, rtol=1e-4)
    assert abs(views[0] - views[1]).max() > 1e-3
    others, same = of(image.at[4:].set(0))
    for actual, expected in zip(jax.tree.leaves(same), jax.tree.leaves(stats), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(others[:, :4], views[:, :4], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"imbalance": 2.0}, "imbalance must be above 0 and at most 1"),
        (
            {"epochs": 4, "lars": Lars(0.3, 4)},
            "lars.warmup_epochs must be from 0 to epochs - 1 = 3",
        ),
        ({"temperature": 2.0}, "starts must be from 0.05 to 1.0"),
        ({"train_size": 0}, "train_size must be from 1"),
    ],
)
def test_settings_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        next(isogclr_cifar(**TINY | arguments))


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped_and_reports_what_it_is_about(monkeypatch):
    # Three batches an epoch, and as many pieces.
    monkeypatch.setattr(comparison.runs, "RUN_STEPS_AT_ONCE", 1)
    monkeypatch.setattr(comparison.runs, "LEAST_STEPS_AT_ONCE", 1)
    rows, states, artifacts = call(epochs=2)
    assert [int(so_far.steps) for _, so_far in states] == [1, 2, 0] * 2
    assert [row["method"] for row in rows] == ["simclr", "sogclr", "isogclr"] * 2
    assert [line["method"] for line in artifacts["results"]] == ["simclr", "sogclr", "isogclr"]
    assert [line["examples"] for line in artifacts["classes"]] == [16, 13, 11, 9, 7, 6, 5, 4, 3, 3]
    assert artifacts["history"]["temperatures"].shape == (77,)
    assert {"temperature_by_class", "temperature_histogram", "neighbours"} <= set(artifacts)
    assert "generated" in artifacts["temperature_by_class"].axes[0].get_title()
    # Twice chance, after two epochs.
    assert all(line["probe accuracy %"] > 20 for line in artifacts["results"])
    # At the end of an epoch, and in the midst of one.
    for place, seen in ((2, 3), (3, 3), (1, 0)):
        resume = Resume(rows[:seen], lambda like, place=place: states[place])
        rest, _, again = call(epochs=2, resume=resume)
        assert rest == rows[seen:]
        np.testing.assert_array_equal(
            again["history"]["temperatures"], artifacts["history"]["temperatures"]
        )
