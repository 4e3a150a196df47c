"""A linear regression, and a classifier whose train state holds all that one may hold."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import losses, train

EXAMPLES, FEATURES, CLASSES = 24, 4, 3


def regression(rng, size=6):
    """A batch whose targets no linear function meets exactly."""
    x, y = rng.normal(size=(size, FEATURES)), rng.normal(size=size)
    return {"x": np.float32(x), "y": np.float32(y)}


def squared_error(params, extra, rows, batch, key):
    errors = batch["x"] @ params - batch["y"]
    return errors**2, (extra, rows, {"error": jnp.abs(errors)})


class Visits(NamedTuple):
    count: jax.Array
    loss: jax.Array


def classification(rng):
    return {
        "x": np.float32(rng.normal(size=(EXAMPLES, FEATURES))),
        "label": np.int32(rng.integers(CLASSES, size=EXAMPLES)),
        "index": np.arange(EXAMPLES, dtype=np.int32),
    }


def classifier_loss(params, extra, rows, batch, key):
    """ALDR-KL with a stored temperature per example, batch statistics and a table of two arrays."""
    logits = batch["x"] @ params["kernel"] + params["bias"][None]
    values, temperature = losses.aldr_kl_step(logits, batch["label"], rows["temperature"])
    visits = Visits(rows["visits"].count + 1, values)
    extra = {"mean": 0.9 * extra["mean"] + 0.1 * batch["x"].mean(0), "steps": extra["steps"] + 1}
    new_rows = {"temperature": temperature, "visits": visits}
    right = logits.argmax(-1) == batch["label"]
    return values, (extra, new_rows, {"accuracy": right, "temperature": temperature})


def optimizer():
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05))


def classifier_state(seed=0, tx=None):
    # Not drawn at random: the generator takes longer to compile than the step does.
    kernel = jnp.sin(seed + jnp.arange(1.0, FEATURES * CLASSES + 1)).reshape(FEATURES, CLASSES)
    params = {"kernel": kernel, "bias": jnp.zeros(CLASSES)}
    visits = Visits(jnp.zeros(EXAMPLES, jnp.int32), jnp.full(EXAMPLES, jnp.nan))
    tables = {
        "temperature": train.Table(jnp.ones(EXAMPLES)),
        "visits": train.Table(visits, train.segment_last),
    }
    extra = {"mean": jnp.zeros(FEATURES), "steps": jnp.int32(0)}
    key = jax.random.key(seed)
    return train.init_state(params, tx or optimizer(), key=key, extra=extra, tables=tables)


def raw(tree):
    """The same tree in NumPy, with the data of typed keys."""

    def read(leaf):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(read, tree)


def assert_close(found, expected, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        raw(found),
        raw(expected),
    )


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, raw(found), raw(expected))
