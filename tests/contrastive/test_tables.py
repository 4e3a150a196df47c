"""Tables of rows: where they start, and what becomes of an example that a batch holds twice."""

import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import contrastive
from lnl_jax.train.tables import gather, scatter
from tests.contrastive.test_contrastive import SETTINGS, unit


def test_an_example_drawn_twice_keeps_the_mean_of_what_it_has_learnt(rng):
    tables = {"both": contrastive.isogclr_table(5, 0.1), "one": contrastive.sogclr_table(5)}
    index, z = jnp.array([3, 1, 3]), unit(rng, 3, 4)
    rows = gather(tables, index)
    assert rows["both"].log_u.tolist() == rows["one"].tolist() == [-np.inf] * 3
    _, new, _ = contrastive.isogclr(z, z, rows["both"], **SETTINGS)
    found = scatter(tables, index, {"both": new, "one": new.log_u}, jnp.ones(3, bool))
    values = found["both"].values
    for name in ("temperature", "velocity"):
        twice = np.float64(getattr(new, name))[[0, 2]]
        np.testing.assert_allclose(getattr(values, name)[3], twice.mean(), rtol=1e-6)
    averages = np.exp(np.float64(new.log_u)[[0, 2]])
    for log_u in (values.log_u, found["one"].values):
        np.testing.assert_allclose(np.exp(log_u[3]), averages.mean(), rtol=1e-5)
        assert log_u[0] == -np.inf
    assert values.temperature[0] == np.float32(0.1)


def test_tables_without_sense_are_refused():
    for n, temperature, message in (
        (0, 0.1, "n must be an integer from 1"),
        (3, 0.0, "temperature must be above 0"),
        (3, float("nan"), "temperature must be above 0"),
        (3, [0.1, 0.2], "temperature must be a scalar or have one value per example"),
    ):
        with pytest.raises(ValueError, match=message):
            contrastive.isogclr_table(n, temperature)
    with pytest.raises(ValueError, match="n must be an integer"):
        contrastive.sogclr_table(2.5)
