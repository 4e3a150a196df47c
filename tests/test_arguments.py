"""Readers of arguments that several rooms share."""

import jax
import jax.numpy as jnp

from lnl_jax._arguments import check_range


def test_a_traced_number_is_not_looked_at():
    def doubled(scale):
        check_range("scale", scale, above=0)
        return 2 * scale

    assert jax.jit(doubled)(jnp.float32(3)) == 6
