"""Epochs in pieces: the training is the same, and goes on after any of them as if never stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import data, train
from lnl_jax.comparison.runs import skipped_of
from tests.train.problems import (
    EXAMPLES,
    assert_close,
    assert_same,
    classification,
    classifier_loss,
    classifier_state,
    optimizer,
    raw,
)

BATCH, EPOCHS = 6, 3
STEPS = -(-EXAMPLES // BATCH)
HALF = STEPS // 2


def plan(epoch):
    return data.epoch_plan(EXAMPLES, BATCH, np.random.default_rng((1, epoch)))


@pytest.mark.parametrize("taken", [0, 7])
def test_all_steps_are_taken_once_in_pieces_as_equal_as_can_be(taken):
    for steps in range(taken + 1, 60):
        rows = {"position": np.arange(steps)}
        for at_once in range(1, steps + 2):
            parts = [of for of, _ in train.in_pieces(rows, at_once)]
            lengths = [of.stop - of.start for of in parts]
            assert max(lengths) <= at_once
            assert max(lengths) * 2 >= at_once or lengths == [steps]
            assert len(set(lengths[:-1])) <= 1
            assert lengths[-1] <= lengths[0]
            found = [values["position"] for _, values in train.in_pieces(rows, at_once, taken)]
            np.testing.assert_array_equal(np.concatenate(found), np.arange(taken, steps))
            # Where they cut, it is the same whatever was taken.
            ends = [one[-1] + 1 for one in found]
            assert ends == [of.stop for of in parts if of.stop > taken]


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(
        ValueError, match="its rows must be a dict of arrays .* got a list_iterator"
    ):
        next(train.in_pieces(iter([]), 2))
    with pytest.raises(ValueError, match="steps_at_once must be an integer from 1"):
        next(train.in_pieces(plan(0), 0))
    with pytest.raises(ValueError, match=f"taken must be .* to {STEPS - 1}, got {STEPS}"):
        next(train.in_pieces(plan(0), 2, taken=STEPS))


@pytest.fixture(scope="module")
def run_epoch():
    """Compiled once for each length, of which there are two."""
    on_batches = train.make_train_step(classifier_loss, optimizer())
    examples = classification(np.random.default_rng(0))
    return train.scan_steps(train.gather_batches(on_batches, jax.tree.map(jnp.asarray, examples)))


def fit(run_epoch, state, **options):
    return train.fit(run_epoch, state, plan, epochs=EPOCHS, steps_per_epoch=STEPS, **options)


def test_a_fit_in_pieces_is_the_whole_one_and_goes_on_after_each_to_the_bit(run_epoch, tmp_path):
    whole = [row for row, _ in fit(run_epoch, classifier_state())]
    names = ("loss", "gradient_norm", "accuracy", "temperature", "skipped", "steps_skipped")
    begin = train.SoFar(0, train.no_sums(*names))
    options = {"steps_at_once": HALF, "so_far": begin}
    manager = train.open_checkpoints(tmp_path, keep=2 * EPOCHS)
    rows, number = [], 0
    for found, state in fit(run_epoch, classifier_state(), **options):
        if isinstance(found, train.SoFar):
            assert found.steps == HALF
            number += 1
            train.save(manager, number, {"state": state, "so_far": found}, {"rows": len(rows)})
        else:
            rows.append(found)
            end = raw(state)
    assert_close(rows, whole)
    assert number == EPOCHS
    for step in range(1, number + 1):
        like = {"state": classifier_state(seed=7), "so_far": begin}
        kept = train.restore(manager, step, like)
        again = fit(run_epoch, kept["state"], steps_at_once=HALF, so_far=kept["so_far"])
        # What is left to do begins with the end of the epoch that was under way.
        found = [(row, raw(state)) for row, state in again if not isinstance(row, train.SoFar)]
        for (row, _), expected in zip(found, rows[step - 1 :], strict=True):
            assert_same(row, expected)
        assert_same(found[-1][1], end)
    manager.close()


def test_a_state_in_the_midst_of_an_epoch_needs_what_was_summed_up_there(run_epoch):
    ends = fit(run_epoch, classifier_state(), steps_at_once=HALF)
    so_far, state = next(ends)
    with pytest.raises(ValueError, match=f"so_far must be of {HALF} steps .* got 1"):
        next(fit(run_epoch, state, so_far=so_far._replace(steps=1)))


def test_an_infinite_loss_in_a_later_piece_is_named_by_its_step_and_batch(run_epoch):
    def ruined(state, rows):
        state, metrics = run_epoch(state, rows)
        last = state.step == STEPS
        losses = jnp.where(last, metrics["loss"].at[-1].set(jnp.inf), metrics["loss"])
        code = metrics["not_finite"]
        return state, metrics | {"loss": losses, "not_finite": code.at[-1].set(jnp.int32(last))}

    found = fit(ruined, classifier_state(), steps_at_once=HALF)
    next(found)
    with pytest.raises(train.NotFiniteError, match=rf"step {STEPS - 1} \(epoch 1, batch {STEPS}\)"):
        next(found)


def averaging(rate):
    """Runs of two data sets and two settings that carry a mean; exact in no order but theirs."""

    def step(setting, data_set, state, batch):
        del data_set
        losses = jnp.abs(batch["x"] - state) * setting
        state = state + setting * (batch["x"] - state).mean()
        return state, {"loss": losses.mean(), "count": batch["mask"].sum().astype(jnp.float32)}

    trainer = train.Trainer(
        lambda setting, data_set: jnp.float32(0),
        step,
        lambda setting, data_set, state: {"mean": state},
    )
    x = np.random.default_rng(0).normal(size=(2, EXAMPLES)).astype(np.float32)
    return train.in_lanes(trainer, np.float32([0.1, 0.3]) * rate, {"train": {"x": x}})


def test_runs_in_lockstep_go_on_after_any_piece_as_if_never_stopped(tmp_path):
    all_runs = [averaging(1), averaging(0.5)]
    of_epoch = data.epoch_plans(EXAMPLES, BATCH, range(2))

    def fit(states, **options):
        options |= {"epochs": EPOCHS, "steps_at_once": HALF}
        return train.fit_together(all_runs, states, of_epoch, **options)

    initial = [runs.state for runs in all_runs]
    begin = train.SoFar(0, [train.no_sums("loss", shape=(2, 2)) for _ in all_runs])
    whole = train.fit_together(all_runs, initial, of_epoch, epochs=EPOCHS)
    expected = [reports for _, reports, _ in whole]
    manager, found = train.open_checkpoints(tmp_path, keep=EPOCHS), []
    for epoch, reports, states in fit(initial):
        if isinstance(reports, train.SoFar):
            train.save(manager, epoch, (states, reports), {})
        else:
            found.append(reports)
    assert_close(found, expected)
    assert list(manager.all_steps()) == [1, 2, 3]
    for epoch in manager.all_steps():
        states, so_far = train.restore(manager, epoch, (initial, begin))
        assert so_far.steps == HALF
        rest = fit(states, finished=epoch - 1, so_far=so_far)
        ends = [reports for _, reports, _ in rest if not isinstance(reports, train.SoFar)]
        for one, other in zip(ends, found[epoch - 1 :], strict=True):
            assert_same(one, other)
    manager.close()


def test_sums_that_were_restored_to_a_device_go_on_in_float64():
    runs = averaging(1)
    of_epoch = data.epoch_plans(EXAMPLES, BATCH, range(2))
    begin = train.SoFar(0, [train.no_sums("loss", shape=(2, 2))])

    def losses(so_far):
        found = train.fit_together([runs], [runs.state], of_epoch, epochs=2, so_far=so_far)
        return [report["loss"] for _, (report,), _ in found]

    assert_same(losses(jax.tree.map(jnp.asarray, begin)), losses(begin))


def test_an_epoch_in_pieces_that_is_too_short_or_too_long_is_refused_as_a_whole_one_is(run_epoch):
    def shorter(epoch):
        return {name: values[:-1] for name, values in plan(epoch).items()}

    for at_once in (None, HALF, 1):
        for batches, steps in ((shorter, STEPS), (plan, STEPS - 1)):
            found = train.fit(
                run_epoch,
                classifier_state(),
                batches,
                epochs=1,
                steps_per_epoch=steps,
                steps_at_once=at_once,
            )
            with pytest.raises(ValueError, match=rf"has \d steps, not steps_per_epoch = {steps}"):
                list(found)


def test_runs_that_diverge_or_have_nothing_left_of_an_epoch_say_so_in_numbers_alone():
    """NumPy would warn of them, in a line that nobody can do anything about."""
    losses = np.float32([[[3e38, 0, np.inf]]] * STEPS)
    count = np.float32([[[2, 0, 0]]] * STEPS)
    runs = train.Runs(
        jnp.zeros((1, 3)),
        lambda states, rows: (states, {"loss": losses, "count": count}),
        lambda states: {},
    )
    of_epoch = data.epoch_plans(EXAMPLES, BATCH, range(1))
    ((_, (report,), _),) = train.fit_together([runs], [runs.state], of_epoch, epochs=1)
    assert report["loss"][0, 0] == np.inf
    assert np.isnan(report["loss"][0, 1:]).all()
    assert "examples_skipped" not in report


def test_what_runs_left_out_of_an_epoch_is_said_of_each_also_after_a_piece():
    left_out = np.float32([[[0, 2], [6, 0]]] * STEPS)

    def run_steps(states, rows):
        count = rows["mask"].sum(-1)[..., None] - left_out[: len(rows["mask"])]
        return states, {"loss": count, "count": count, "skipped": count}

    runs = train.Runs(jnp.zeros((2, 2)), run_steps, lambda states: {})
    of_epoch = data.epoch_plans(EXAMPLES, BATCH, range(2))
    begin = train.SoFar(0, [train.no_sums("loss", shape=(2, 2))])
    for at_once in (None, HALF):
        options = {"epochs": 1, "steps_at_once": at_once}
        (*pieces, (_, (report,), _)) = train.fit_together([runs], [runs.state], of_epoch, **options)
        np.testing.assert_array_equal(report["examples_skipped"], left_out[0] * STEPS)
        assert skipped_of(report) == {"examples_skipped": 8 * STEPS}
        assert skipped_of(report, (0, 1)) == {"examples_skipped": 2 * STEPS}
        assert skipped_of(report, (0, 0)) == skipped_of({}) == {}
    (_, so_far, _) = pieces[0]
    assert begin.sums[0].keys() == so_far.sums[0].keys()
    ((_, (again,), _),) = train.fit_together(
        [runs], [runs.state], of_epoch, epochs=1, so_far=so_far
    )
    np.testing.assert_array_equal(again["examples_skipped"], report["examples_skipped"])
