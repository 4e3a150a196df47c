"""Trainings pass by pass: interrupted as uninterrupted, with what was kept on the way."""

import itertools

import jax
import numpy as np
import pytest

from lnl_jax.distill import labels, training
from lnl_jax.train import open_checkpoints, over_devices, restore_latest, save
from tests.train.problems import assert_close, raw

PASSES, STEPS = 4, 3


def squared(constants, params, extra, rows, batch, key):
    errors = (batch["x"] @ params["w"] - batch["y"] - constants["shift"]) ** 2
    return errors, ({"seen": extra["seen"] + 1}, rows, {})


def batches(number, steps):
    for step in range(STEPS)[steps]:
        rng = np.random.default_rng((number, step))
        x = rng.normal(size=(5, 2)).astype(np.float32)
        yield {"x": x, "y": x.sum(1), "mask": np.array([True] * 4 + [False])}


def learning(keep=(1, 3, 4)):
    params = {"w": np.zeros(2, np.float32)}
    extra = {"seen": np.float32(0)}
    constants = {"shift": np.float32(1)}
    return training.NetworkTraining(squared, constants, params, None, extra, keep=keep)


def start(learn, passed=0):
    return training.resumable(learn, learning_rate=0.1, steps=PASSES * STEPS, seed=0, passed=passed)


def train(learn, begin):
    step = training.step_with(learn.loss, learn.constants)
    options = {"passes": PASSES, "steps_per_pass": STEPS, "keep": learn.keep}
    found = training.train_in_passes(step, begin, batches, **options)
    found = [(row, each) for row, each in found if row is not None]
    copied = [jax.tree.map(np.asarray, each["kept"]) for _, each in found]
    return [row["loss"] for row, _ in found], copied, found[-1][1] if found else begin


def test_a_training_goes_on_where_it_stopped_with_what_it_had_kept():
    losses, kept, end = train(learning(), start(learning()))
    assert losses[-1] < losses[0]
    assert [sorted(each) for each in kept] == [["1"], ["1"], ["1", "3"], ["1", "3", "4"]]
    for passed in (1, 2, 3, PASSES):
        step = training.step_with(squared, learning().constants)
        options = {"passes": passed, "steps_per_pass": STEPS, "keep": learning().keep}
        begun = training.train_in_passes(step, start(learning()), batches, **options)
        stopped = list(begun)[-1][1]
        form = start(learning(), passed)
        assert jax.tree.structure(form) == jax.tree.structure(stopped)
        more, _, again = train(learning(), stopped)
        np.testing.assert_array_equal(more, losses[passed:])
        for one, other in zip(
            training.kept_variables(again), training.kept_variables(end), strict=True
        ):
            jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_training_goes_on_in_the_midst_of_a_pass(monkeypatch):
    monkeypatch.setattr(training._passes, "STEPS_AT_ONCE", 1)
    losses, _, end = train(learning(), start(learning()))
    step = training.step_with(squared, learning().constants)
    options = {"passes": PASSES, "steps_per_pass": STEPS, "keep": learning().keep}
    begun = training.train_in_passes(step, start(learning()), batches, **options)
    for number, (row, stopped) in enumerate(begun, 1):
        # The form of what is kept depends on the passes that have ended alone.
        form = start(learning(), number // STEPS)
        assert jax.tree.structure(form) == jax.tree.structure(stopped)
        assert (row is None) == (number % STEPS > 0)
        if number == 5:
            assert int(stopped["so_far"].steps) == 2
            break
    more, _, again = train(learning(), stopped)
    np.testing.assert_array_equal(more, losses[1:])
    jax.tree.map(np.testing.assert_array_equal, raw(again["state"]), raw(end["state"]))


@pytest.mark.parametrize("devices", [(5, 1), (1, 5)])
def test_in_the_midst_of_a_pass_it_goes_on_over_other_devices(devices, monkeypatch, tmp_path):
    monkeypatch.setattr(training._passes, "STEPS_AT_ONCE", 1)
    losses, _, end = train(learning(), start(learning()))
    step = training.step_with(squared, learning().constants)
    options = {"passes": PASSES, "steps_per_pass": STEPS, "keep": learning().keep}
    manager = open_checkpoints(tmp_path)
    with over_devices(devices[0]):
        begun = training.train_in_passes(step, start(learning()), batches, **options)
        *_, (_, stopped) = itertools.islice(begun, 5)
        assert len(stopped["state"].params["w"].devices()) == devices[0]
        save(manager, 5, stopped, {})
    with over_devices(devices[1]):
        _, found, _ = restore_latest(manager, start(learning(), 1))
        more, _, again = train(learning(), found)
        assert len(again["state"].params["w"].devices()) == devices[1]
    manager.close()
    np.testing.assert_allclose(more, losses[1:], rtol=1e-5)
    assert_close(again["state"], end["state"])


def test_without_a_wish_the_last_variables_are_kept():
    _, _, end = train(learning(None), start(learning(None)))
    (last,) = training.kept_variables(end)
    np.testing.assert_array_equal(last["params"]["w"], end["state"].params["w"])
    assert float(last["extra"]["seen"]) == PASSES * STEPS


def test_checkpoints_are_evenly_spaced_and_no_more_than_passes():
    assert labels.evenly_spaced(9, 9) == list(range(1, 10))
    with pytest.raises(ValueError, match="checkpoints must be from 1 to the 3 .* got 4"):
        labels.evenly_spaced(3, 4)
