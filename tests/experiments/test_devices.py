"""Studies over several devices give the numbers of one, whatever loop they are in."""

import functools
import io

import numpy as np
import pytest

from experiments import EXPERIMENTS
from experiments.contrastive._shared import Lars
from experiments.distillation.hello_digits import hello_digits
from experiments.robust_losses.ldr_cifar import ldr_cifar
from lnl_jax import train
from lnl_jax.comparison.catalogue import LOSSES
from lnl_jax.comparison.label_plan import Projector, Students
from tests.experiments.contrastive import test_isogclr_cc3m, test_isogclr_cifar
from tests.experiments.replays import play
from tests.experiments.robust_losses import test_noisy_images

folder = test_isogclr_cc3m.folder


def numbers(rows):
    """Of rows, all but times, by their place and name."""
    return {
        (at, name): value
        for at, row in enumerate(rows)
        for name, value in row.items()
        if isinstance(value, int | float)
    }


def check_rows(found, expected):
    """In float32, over epochs: a share of examples may differ by one of a few."""
    found, expected = numbers(found), numbers(expected)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=2e-3, abs=0.06), key
        if "loss" in key:
            assert found[key] == pytest.approx(value, rel=1e-4), key


def over(devices, call):
    lines = []
    with train.over_devices(devices, say=lines.append):
        found = call()
    return (*found, lines)


@pytest.mark.slow
def test_a_robust_loss_with_a_row_for_each_image():
    run = functools.partial(test_noisy_images.call, ldr_cifar, loss=LOSSES["aldr_kl_step"])
    expected, _, _ = over(1, run)
    found, artifacts, lines = over(4, functools.partial(run, shard_tables=True))
    check_rows(found, expected)
    assert lines == ["batches of 16 over 4 devices, 4 examples on each"]
    assert "results" in artifacts


@pytest.mark.slow
def test_pairs_with_their_tables_split(folder):
    run = functools.partial(test_isogclr_cc3m.call, folder, epochs=1)
    expected, _, artifacts, _ = over(1, run)
    found, _, split, lines = over(4, functools.partial(run, shard_tables=True))
    check_rows(found, expected)
    assert lines == ["batches of 16 over 4 devices, 4 examples on each"]
    for side in ("images", "captions"):
        one, other = (each["history"][side] for each in (artifacts, split))
        assert one.shape == other.shape
        np.testing.assert_allclose(other, one, rtol=1e-3)


@pytest.mark.slow
def test_views_with_their_table_split():
    run = functools.partial(test_isogclr_cifar.call, epochs=1, lars=Lars(0.03, 0))
    expected, _, artifacts, _ = over(1, run)
    found, _, split, lines = over(4, functools.partial(run, shard_tables=True))
    check_rows(found, expected)
    assert lines == ["batches of 32 over 4 devices, 8 examples on each"]
    one, other = (each["history"]["temperatures"] for each in (artifacts, split))
    assert one.shape == other.shape
    np.testing.assert_allclose(other, one, rtol=1e-3)


@pytest.mark.slow
def test_a_distillation_from_its_teacher_to_its_students():
    small = {
        "foundation_steps": 3,
        "teacher_steps": 9,
        "projector": Projector(steps=2),
        "students": Students(count=1, epochs=4),
        "per_class": (2,),
        "rows": ("hard", "stored_kl", "projector_kl"),
    }

    def run():
        return (play(hello_digits(**small)),)

    one, _ = over(1, run)
    other, lines = over(4, run)
    assert other.computed == one.computed
    assert len(lines) > 1
    check_rows(other.rows, one.rows)
    # Adam moves an entry whose gradient is rounding as far as any other.
    adapter, same = (
        np.load(io.BytesIO(each.artifacts["adapter.npy"])).astype(float) for each in (other, one)
    )
    assert np.linalg.norm(adapter - same) < 1e-3 * np.linalg.norm(same)
    check_rows(other.artifacts["storage"], one.artifacts["storage"])


@pytest.mark.slow
def test_trainings_at_once():
    study = EXPERIMENTS["ldr_digits"]
    small = {"epochs": 1, "seeds": 4, "learning_rates": (0.1,), "loss": LOSSES["ldr_kl"]}

    def run():
        outputs = study(**small)
        return ([output for output in outputs if isinstance(output, dict)],)

    expected, _ = over(1, run)
    found, lines = over(8, run)
    check_rows(found, expected)
    assert lines == ["4 data sets at once over 4 of 8 devices, 1 on each"]
