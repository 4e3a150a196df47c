"""Studies with --precision bfloat16: they keep float32 and end near those without."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import EXPERIMENTS
from experiments.contrastive._shared import Lars
from experiments.distillation.hello_noisy import FOUNDATIONS
from lnl_jax import models, train
from lnl_jax.comparison.catalogue import LOSSES, shapes32
from lnl_jax.comparison.label_plan import Projector, Students
from lnl_jax.comparison.table_sets import TABLE_SETS
from lnl_jax.distill.images import digit_parts
from lnl_jax.runner.command_line import bind
from lnl_jax.runner.outputs import Checkpoint
from tests.experiments.replays import play

# Every study of networks that an accelerator would be used for.
WITH_PRECISION = [*"dro_groups hello_cifar hello_digits hello_imagenet hello_noisy".split()]
WITH_PRECISION += [*"isogclr_cc3m isogclr_cifar isogclr_digits isogclr_pairs".split()]
WITH_PRECISION += [*"ldr_benchmark ldr_cifar ldr_cifarn ldr_digits ldr_letter".split()]
WITH_PRECISION += [*"crowd_labels label_issues label_proportions loss_leaderboard".split()]
WITH_PRECISION += ["memorization_digits", "noisy_training"]
IMAGES = {"dataset": functools.partial(shapes32, num_train=60, num_test=20), "epochs": 1}
ONE_RATE = {"learning_rates": (0.1,)}
TINY = {
    "ldr_digits": {"epochs": 1, "seeds": 2, "loss": LOSSES["ldr_kl"], "temperatures": (10.0,)}
    | ONE_RATE,
}
SLOW = {
    "isogclr_digits": {"epochs": 1, "seeds": 2, "starts": (0.1,)},
    "dro_groups": {"epochs": 1, "seeds": 2, "fractions": (0.5,), "radii": (1.0,)}
    | {"temperatures": (1.0,), "step_sizes": (0.1,)}
    | ONE_RATE,
    "loss_leaderboard": {"epochs": 1, "seeds": 2, "only": ("ldr_kl",)} | ONE_RATE,
    "ldr_benchmark": {"dataset": TABLE_SETS["digits"], "losses": ("ldr_kl",), "noises": ("clean",)}
    | {"folds": 2, "epochs": 1}
    | ONE_RATE,
    "ldr_cifar": IMAGES
    | {"model": functools.partial(models.convnet, width=4, depth=1), "folds": 2}
    | {"loss": LOSSES["ldr_kl"], "batch_size": 10},
    "isogclr_cifar": IMAGES
    | {"model": functools.partial(models.resnet8, width=4), "imbalance": 0.5, "batch_size": 16}
    | {"projector_width": 16, "lars": Lars(0.1, 0)},
    "isogclr_pairs": {"epochs": 1, "seeds": 2},
    "noisy_training": {"epochs": 1, "seeds": 2, "methods": ("nested_dropout", "divide_mix")}
    | ONE_RATE,
}


@pytest.mark.parametrize("name", WITH_PRECISION)
def test_every_study_computes_in_float32_unless_it_is_asked_for_bfloat16(name):
    assert bind(EXPERIMENTS[name], {}).arguments["precision"] is jnp.float32
    call = bind(EXPERIMENTS[name], {"precision": "bfloat16"})
    assert call.arguments["precision"] is jnp.bfloat16
    assert call.overrides == {"precision": "bfloat16"}


def until_a_checkpoint(name, given, **more):
    """The numbers of the rows, and all floating arrays of the states in the first checkpoint."""
    numbers = []
    for output in EXPERIMENTS[name](**given, **more):
        match output:
            case Checkpoint(state):
                break
            case dict():
                numbers += [value for value in output.values() if isinstance(value, float)]
    # What an epoch measures is added up in float64, on the host.
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, train.SoFar))
    leaves = [leaf for leaf in leaves if hasattr(leaf, "dtype")]
    return np.array(numbers), [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


@pytest.mark.parametrize(
    "name", [*TINY, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_a_run_in_bfloat16_keeps_float32_and_ends_near_one_in_float32(name):
    given = (TINY | SLOW)[name]
    plain, before = until_a_checkpoint(name, given)
    half, kept = until_a_checkpoint(name, given, precision=jnp.bfloat16)
    assert {leaf.dtype for leaf in kept} == {np.dtype("float32")}
    pairs = zip(before, kept, strict=True)
    assert not all(np.array_equal(one, two, equal_nan=True) for one, two in pairs)
    assert np.isfinite(half).all()
    np.testing.assert_allclose(half, plain, rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_projectors_in_bfloat16_keep_float32_and_know_about_as_much():
    given = {"foundation_steps": 20, "teacher_steps": 30, "per_class": (1,)}
    given |= {"projector": Projector(steps=20), "students": Students(count=1, epochs=4)}
    given |= {"rows": ("hard", "projector_kl")}
    plain = play(EXPERIMENTS["hello_digits"](**given))
    half = play(EXPERIMENTS["hello_digits"](**given, precision=jnp.bfloat16))
    kept = [leaf for leaf in jax.tree.leaves(half.kept) if hasattr(leaf, "dtype")]
    assert not [leaf.dtype for leaf in kept if leaf.dtype == jnp.bfloat16]
    for name in ("foundation", "teachers", "hard, 1 per class"):
        leaves = [jax.tree.leaves(one.kept[name]) for one in (plain, half)]
        assert any(np.any(one != two) for one, two in zip(*leaves, strict=True))
    rows = [[row["accuracy"] for row in one.rows] for one in (plain, half)]
    np.testing.assert_allclose(*rows, atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUNDATIONS)
def test_a_tower_trained_in_bfloat16_is_of_float32_and_computes_in_bfloat16(name):
    part, images = digit_parts(0).train, jnp.zeros((2, 16, 16, 1))
    plain, half = (
        FOUNDATIONS[name](part, 0, 3, num_classes=10, dtype=dtype)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(half.tower)} == {jnp.dtype("float32")}
    for one, two in zip(jax.tree.leaves(plain.tower), jax.tree.leaves(half.tower), strict=True):
        np.testing.assert_allclose(one, two, atol=0.02)
    assert "bf16" not in str(jax.make_jaxpr(plain.encode)(plain.tower, images))
    assert "bf16" in str(jax.make_jaxpr(half.encode)(half.tower, images))
    in_float32 = jax.make_jaxpr(functools.partial(half.encode, dtype=jnp.float32))
    assert "bf16" not in str(in_float32(half.tower, images))
