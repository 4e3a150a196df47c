"""Products of similarities in half precision, as an accelerator makes them."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import contrastive
from lnl_jax.contrastive import _tiles

BATCH, WIDTH = 16, 8


def loss(queries, keys):
    return contrastive.info_nce(queries, keys, temperature=0.1).mean()


def test_no_product_of_the_gradient_is_made_in_float32():
    embeddings = jax.ShapeDtypeStruct((BATCH, WIDTH), jnp.bfloat16)
    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(embeddings, embeddings)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    factors = re.findall(r"dot_general.* : \(tensor<([^>]*)>, tensor<([^>]*)>\)", text)
    # That of the similarities and one for each side.
    assert len(factors) == 3
    assert all(factor.endswith("bf16") for pair in factors for factor in pair)


def test_its_derivatives_are_those_of_a_product_up_to_half_precision():
    rng = np.random.default_rng(0)
    a, b, of_a, of_b = (
        jnp.asarray(rng.normal(size=shape), jnp.bfloat16)
        for shape in ((BATCH, WIDTH), (WIDTH, BATCH)) * 2
    )
    wide = [np.float64(array) for array in (a, b, of_a, of_b)]

    value, moved = jax.jvp(_tiles._half_product, (a, b), (of_a, of_b))
    assert value.dtype == moved.dtype == jnp.float32
    np.testing.assert_allclose(value, wide[0] @ wide[1], rtol=1e-5, atol=1e-5)
    # Each of two products is rounded to eight bits.
    expected = wide[2] @ wide[1] + wide[0] @ wide[3]
    np.testing.assert_allclose(moved, expected, atol=2**-8 * np.abs(expected).max() * 2)

    slopes = rng.normal(size=value.shape).astype(np.float32)
    by_a, by_b = jax.vjp(_tiles._half_product, a, b)[1](jnp.asarray(slopes))
    assert by_a.dtype == by_b.dtype == jnp.bfloat16
    for found, exact in ((by_a, slopes @ wide[1].T), (by_b, wide[0].T @ slopes)):
        np.testing.assert_allclose(
            np.float32(found), exact, rtol=2**-7, atol=2**-7 * np.abs(exact).max()
        )
