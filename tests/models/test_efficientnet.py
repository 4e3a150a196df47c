"""EfficientNet-Lite against its definition in float64 NumPy, and its parts against each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.models import EfficientNetLite
from lnl_jax.models import _depthwise as layers

STAGES = ((1, 3, 1, 1, 4), (2, 5, 2, 3, 6))
MODEL = EfficientNetLite(5, stages=STAGES, stem=4, top=8)
ROWS, COLUMNS = 9, 12


@functools.cache
def example():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, ROWS, COLUMNS, 3))
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))

    def draw(path, leaf):
        name = path[-1].key
        values = rng.uniform(0.5, 2, leaf.shape) if name in ("scale", "var") else None
        return rng.normal(size=leaf.shape) if values is None else values

    return images, jax.tree_util.tree_map_with_path(draw, shapes)


def same_convolution(images, kernel, stride):
    """Of ``[B, H, W, C]`` with ``[k, k, C, D]``, by its definition."""
    size = len(kernel)
    rows, columns = (-(-length // stride) for length in images.shape[1:3])
    padding = []
    for out, length in ((rows, images.shape[1]), (columns, images.shape[2])):
        total = max((out - 1) * stride + size - length, 0)
        padding.append((total // 2, total - total // 2))
    padded = np.pad(images, ((0, 0), *padding, (0, 0)))
    result = np.zeros((len(images), rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            part = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
            result[:, i, j] = np.einsum("bhwc,hwcd->bd", part, kernel)
    return result


def defined(variables, images):
    """Scores, as the papers define the network: table 1 of EfficientNet, without its squeezing."""
    params, stats = variables["params"], variables["batch_stats"]

    def norm(hidden, name, block=None):
        p, s = (tree if block is None else tree[block] for tree in (params, stats))
        scale, bias, mean, var = p[name]["scale"], p[name]["bias"], s[name]["mean"], s[name]["var"]
        return (hidden - mean) / np.sqrt(var + 1e-3) * scale + bias

    def relu6(values):
        return np.minimum(np.maximum(values, 0), 6)

    hidden = relu6(norm(same_convolution(images, params["first"]["kernel"], 2), "first_norm"))
    index = 0
    for repeats, _, stride, expansion, _ in STAGES:
        for place in range(repeats):
            block, before = f"blocks_{index}", hidden
            if expansion != 1:
                hidden = hidden @ params[block]["expand"]["kernel"]
                hidden = relu6(norm(hidden, "expand_norm", block))
            # A full kernel that is zero between different channels.
            kernel = params[block]["depthwise"][..., None] * np.eye(hidden.shape[-1])
            hidden = same_convolution(hidden, kernel, stride if place == 0 else 1)
            hidden = relu6(norm(hidden, "depthwise_norm", block))
            hidden = norm(hidden @ params[block]["project"]["kernel"], "project_norm", block)
            hidden = hidden + before if place else hidden
            index += 1
    hidden = relu6(norm(hidden @ params["last"]["kernel"], "last_norm")).mean((1, 2))
    return hidden @ params["scores"]["kernel"] + params["scores"]["bias"], hidden


@functools.cache
def computed():
    """Scores and features, whole and in two parts, in one program."""
    images, variables = example()
    images, variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (images, variables))

    @jax.jit
    def run(variables, images):
        hidden = MODEL.apply(variables, images, 1, method="until")
        in_parts = MODEL.apply(variables, hidden, 1, method="onwards")
        features = MODEL.clone(num_classes=None).apply(variables, images)
        return MODEL.apply(variables, images), in_parts, features

    return run(variables, images)


def test_scores_and_features_are_those_of_the_definition():
    images, variables = example()
    scores, features = defined(variables, images)
    np.testing.assert_allclose(computed()[0], scores, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(computed()[2], features, rtol=2e-5, atol=2e-5)


def test_a_prefix_and_what_goes_on_from_it_are_the_whole():
    np.testing.assert_array_equal(computed()[1], computed()[0])


SHAPES = [(7, 9, 3, 1), (8, 7, 5, 2), (7, 8, 3, 2), (5, 5, 5, 2), (2, 2, 5, 2)]


@functools.cache
def both_ways():
    """For each shape the product and its two gradients, of both convolutions."""
    rng = np.random.default_rng(0)
    inputs = [
        tuple(rng.normal(size=s).astype(np.float32) for s in ((2, rows, columns, 3), (k, k, 3)))
        for rows, columns, k, _ in SHAPES
    ]

    @jax.jit
    def run(inputs):
        found = []
        for (images, kernel), (_, _, _, stride) in zip(inputs, SHAPES, strict=True):
            pair = []
            for function in (
                lambda x, w, s=stride: layers.depthwise(x, w, s),
                functools.partial(layers.grouped, stride=stride),
            ):
                out, back = jax.vjp(function, images, kernel)
                pair.append(
                    (
                        out,
                        *back(jnp.sin(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)),
                    )
                )
            found.append(tuple(pair))
        return found

    return run(inputs)


@pytest.mark.parametrize("case", range(len(SHAPES)), ids=map(str, SHAPES))
def test_shifted_products_and_their_gradient_are_those_of_a_grouped_convolution(case):
    for ours, theirs in zip(*both_ways()[case], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 3), ("tpu", 3)])
def test_accelerators_run_grouped_convolutions_and_cpus_none(platform, convolutions):
    """One forwards, and one for each gradient; nothing is compiled."""
    images, kernel = jnp.zeros((2, 6, 6, 3)), jnp.zeros((3, 3, 3))

    def both(images, kernel):
        out, back = jax.vjp(lambda x, w: layers.depthwise(x, w, 1), images, kernel)
        return out, back(out)

    program = jax.jit(both).trace(images, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions


def test_the_gradient_on_a_mesh_is_that_of_the_whole_batch():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(8, 5, 5, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2)), jnp.float32)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    places = jax.P(), jax.P("batch")

    def slopes(kernel, images):
        return jax.grad(lambda w: jnp.square(layers.depthwise(images, w, 2)).sum())(kernel)

    parts = jax.jit(jax.shard_map(slopes, mesh=mesh, in_specs=places, out_specs=jax.P()))
    whole = jax.jit(slopes)(kernel, images)
    np.testing.assert_allclose(parts(kernel, images), whole, rtol=1e-5)


def test_training_updates_every_statistic_and_leaves_masked_examples_out():
    images, variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), example())

    @jax.jit
    def train(images):
        mask = jnp.array([True, True, False])
        return MODEL.apply(variables, images, train=True, mask=mask, mutable=["batch_stats"])

    (scores, new), (others, same) = train(images), train(images.at[2].set(7.0))
    np.testing.assert_array_equal(scores[:2], others[:2])
    jax.tree.map(np.testing.assert_array_equal, new, same)
    changed = jax.tree.map(
        lambda old, now: not np.array_equal(old, now),
        variables["batch_stats"],
        new["batch_stats"],
    )
    assert all(jax.tree.leaves(changed))


def test_lite0_has_the_parameters_of_the_published_file():
    shapes = jax.eval_shape(EfficientNetLite().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 4_694_024


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (EfficientNetLite(), (1, 32, 31, 3), "at least 32 rows and columns, the product of all"),
        (MODEL, (2, 8, 8), r"floating point of shape \[B, H, W, C\]"),
        (EfficientNetLite(0), (1, 32, 32, 3), "num_classes must be an integer from 1 on"),
        (EfficientNetLite(3, stages=((1, 3, 0, 1, 4),)), (1, 32, 32, 3), r"stages\[0\]\[2\] must"),
        (EfficientNetLite(3, stem=0), (1, 32, 32, 3), "stem must be an integer from 1 on"),
    ],
)
def test_images_and_sizes_that_make_no_sense_are_refused(model, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
