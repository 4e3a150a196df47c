"""States as they are on disk: what comes later must not reach them."""

import jax
import jax.numpy as jnp
import numpy as np


def on_the_host(tree):
    """A copy of a state, of NumPy arrays except for the keys."""

    def copy(leaf):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jnp.copy(leaf) if is_key else np.array(leaf)

    return jax.tree.map(copy, tree)
