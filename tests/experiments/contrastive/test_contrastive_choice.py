import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.contrastive.contrastive_choice import Grid, _settings, contrastive_choice
from lnl_jax import contrastive
from tests.experiments.replays import play

TINY = {
    "seeds": 2,
    "epochs": 2,
    "batch_size": 32,
    "batch_sizes": (16, 32),
    "imbalances": (0.1, 1.0),
}
TINY |= {"grid": Grid((0.1, 0.5), (0.8,), (0.4,)), "largest": 40, "held_out": 40}


def test_every_method_has_all_that_is_its_own():
    settings = _settings(Grid((0.1, 0.5), (0.3, 0.8), (0.2, 0.4, 0.8)), 0.1)
    counts = {name: 0 for name in ("simclr", "sogclr", "isogclr")}
    for setting in settings:
        counts[setting["method"]] += 1
        # A temperature is learnt by iSogCLR alone, and SimCLR has no average.
        assert (setting["step"] > 0) == (setting["method"] == "isogclr")
        assert (setting["average"] > 0) == (setting["method"] != "simclr")
    assert counts == {"simclr": 2, "sogclr": 4, "isogclr": 12}
    assert len({tuple(sorted(setting.items())) for setting in settings}) == 18


def test_isogclr_with_a_step_of_0_is_sogclr(rng):
    views = jnp.asarray(rng.normal(size=(2, 5, 4)), jnp.float32)
    views /= jnp.linalg.norm(views, axis=-1, keepdims=True)
    rows = contrastive.isogclr_table(5, 0.2).values._replace(log_u=jnp.linspace(-2.0, 0.0, 5))
    still = contrastive.Temperatures(0.4, 0.0, 0.9, (0.05, 1.0))

    def learnt(views):
        values, moved, _ = contrastive.isogclr(views, views, rows, gamma=0.3, temperatures=still)
        return values.mean(), moved

    def held(views):
        values, log_u, _ = contrastive.sogclr(views, views, rows.log_u, temperature=0.2, gamma=0.3)
        return values.mean(), log_u

    (one, moved), slope = jax.jit(jax.value_and_grad(learnt, has_aux=True))(views)
    (other, log_u), expected = jax.jit(jax.value_and_grad(held, has_aux=True))(views)
    np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(moved.log_u, log_u, rtol=1e-6)
    np.testing.assert_array_equal(moved.temperature, rows.temperature)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_a_run_has_a_line_for_every_cell_and_its_figures():
    played = play(contrastive_choice(**TINY))
    rows, artifacts = played.rows, played.artifacts
    assert len(played.computed) == 3
    assert [(row["batch size"], row["imbalance"]) for row in rows[::3]] == [
        (32, 0.1),
        (16, 0.1),
        (32, 1.0),
    ]
    assert len(artifacts["results"]) == 9
    assert len(artifacts["runs"]) == 3 * 6
    assert len(artifacts["choosers"]) == 4 * 5
    assert all(line["all settings %"] > 30 for line in artifacts["results"])
    moved = {
        line["method"]: abs(line["temperature"] - 0.1)
        for line in artifacts["runs"]
        if "temperature 0.1" in line["setting"]
    }
    assert max(moved["simclr"], moved["sogclr"]) < 1e-6 < moved["isogclr"]
    assert {"claims", "regret"} <= set(artifacts)
