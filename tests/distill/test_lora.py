"""Adapters: nothing at the start, the same merged or not, and counted in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lnl_jax import distill, evaluation, models

EVERYTHING = {r"Conv_\d/kernel$": 3, r"Dense_0/kernel$": 2}


class Network(nn.Module):
    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Conv(6, (3, 3), 2, padding=1)(images))
        hidden = nn.Conv(5, (1, 1))(hidden)
        return nn.Dense(4)(hidden.reshape(len(images), -1))


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
    shapes = jax.eval_shape(Network().init, jax.random.key(1), images)["params"]
    return Network(), filled(shapes, 0.2), images


def filled(shapes, scale=1.0):
    """Parameters or an adapter that change something."""
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype), shapes
    )


@pytest.mark.parametrize("form", [distill.projectors.CONV1X1, distill.projectors.LORALIB])
@pytest.mark.slow
def test_a_new_adapter_changes_nothing_and_a_filled_one_only_what_was_chosen(network, form):
    _, params, _ = network
    adapter = distill.projectors.init_lora(jax.random.key(0), params, EVERYTHING, form=form)
    merged = distill.projectors.merge_lora(params, adapter, form=form)
    jax.tree.map(np.testing.assert_array_equal, merged, params)
    merged = distill.projectors.merge_lora(params, filled(adapter), form=form)
    for name, layer in params.items():
        assert merged[name]["bias"] is layer["bias"]
        assert not np.allclose(merged[name]["kernel"], layer["kernel"])


def test_merged_and_unmerged_application_agree(network):
    model, params, images = network
    adapter = filled(distill.projectors.lora_shapes(params, EVERYTHING))

    def apply(params, images):
        return model.apply({"params": params}, images)

    @jax.jit
    def each(params, adapter):
        return (
            apply(params, images),
            apply(distill.projectors.merge_lora(params, adapter, scale=0.3), images),
            distill.projectors.apply_unmerged(apply, params, adapter, images, scale=0.3),
        )

    without, merged, beside = each(params, adapter)
    np.testing.assert_allclose(beside, merged, rtol=1e-4, atol=1e-4)
    assert not np.allclose(merged, without, atol=0.1)


class Layers(nn.Module):
    """Everything that a layer may do with its kernel, and factors can stand beside."""

    @nn.compact
    def __call__(self, images):
        window = (3, 3)
        layers = {
            "grouped": nn.Conv(6, window, feature_group_count=2, name="grouped"),
            "depthwise": nn.Conv(8, window, 2, feature_group_count=4, name="depthwise"),
            "padded": nn.Conv(6, (3, 2), (2, 1), padding=((1, 0), (2, 1)), name="padded"),
            "dilated": nn.Conv(6, window, kernel_dilation=2, name="dilated"),
            "stretched": nn.Conv(
                6, window, input_dilation=2, padding=((1, 1), (2, 0)), name="stretched"
            ),
            "circular": nn.Conv(6, window, padding="CIRCULAR", name="circular"),
            "transposed": nn.ConvTranspose(6, window, (2, 2), kernel_dilation=2, name="transposed"),
            "general": nn.DenseGeneral(5, axis=1, name="general"),
        }
        return {name: layer(images) for name, layer in layers.items()}


def test_factors_stand_beside_layers_of_every_kind():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 7, 7, 4)), jnp.float32)
    params = filled(jax.eval_shape(Layers().init, jax.random.key(0), images)["params"])
    adapter = filled(distill.projectors.lora_shapes(params, {"kernel$": 3}))

    def apply(params, images):
        return Layers().apply({"params": params}, images)

    @jax.jit
    def each(params, adapter):
        merged = apply(distill.projectors.merge_lora(params, adapter, scale=0.3), images)
        return merged, distill.projectors.apply_unmerged(apply, params, adapter, images, scale=0.3)

    merged, beside = each(params, adapter)
    for name, outputs in merged.items():
        np.testing.assert_allclose(
            beside[name], outputs, rtol=1e-4, atol=1e-4, err_msg=f"The {name} layer"
        )


def test_a_layer_without_a_name_has_its_factors_beside_it_once(rng):
    layer, inputs = nn.Dense(3), jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    params = filled(jax.eval_shape(layer.init, jax.random.key(0), inputs)["params"])
    adapter = filled(distill.projectors.lora_shapes(params, {"kernel": 3}))

    def apply(params, inputs):
        return layer.apply({"params": params}, inputs)

    merged = apply(distill.projectors.merge_lora(params, adapter), inputs)
    beside = distill.projectors.apply_unmerged(apply, params, adapter, inputs)
    np.testing.assert_allclose(beside, merged, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvLocal(6, (3, 3)),
        nn.Conv(6, (3, 3), mask=jnp.ones((3, 3, 4, 6))),
        nn.ConvTranspose(6, (3, 3), transpose_kernel=True),
        nn.DenseGeneral((2, 3), axis=(-2, -1)),
        nn.Einsum((4, 6), "bhwi,io->bhwo"),
    ],
    ids=["local", "masked", "transposed kernel", "two axes", "einsum"],
)
def test_a_layer_that_factors_cannot_stand_beside_is_refused(layer):
    images = jnp.ones((2, 5, 5, 4))
    params = filled(jax.eval_shape(layer.init, jax.random.key(0), images)["params"])
    adapter = filled(distill.projectors.lora_shapes(params, {"kernel": 3}))
    with pytest.raises(ValueError, match="merge it: merge_lora"):
        distill.projectors.apply_unmerged(
            lambda params, images: layer.apply({"params": params}, images), params, adapter, images
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {"a": f["a"]}, r"Dense_0/kernel must have the two factors a and b, got \['a'\]"),
        (lambda f: f["a"], "must have the two factors a and b, got ArrayImpl"),
        (
            lambda f: f | {"b": jnp.ones((3, 4))},
            r"\(80, 2\) and \(3, 4\), make no change .*one rank",
        ),
        (lambda f: f | {"b": jnp.ones(2)}, r"make a change of shape \(80,\)"),
    ],
    ids=["missing", "one array", "two ranks", "a vector"],
)
def test_factors_that_make_no_change_are_refused(network, change, message):
    model, params, images = network
    adapter = filled(distill.projectors.lora_shapes(params, {"Dense_0/kernel": 2}))
    spoiled = {path: change(factors) for path, factors in adapter.items()}
    with pytest.raises(ValueError, match=message):
        distill.projectors.merge_lora(params, spoiled)
    with pytest.raises(ValueError, match=message):
        distill.projectors.apply_unmerged(
            lambda params, images: model.apply({"params": params}, images), params, spoiled, images
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: distill.projectors.lora_shapes(p, {"Dense_0/kernel": 10**9}),
            "from 1 to 80, got 1000000000",
        ),
        (
            lambda p: distill.projectors.lora_shapes(p, {"Dense_0/kernel": 2.5}),
            "must be an integer from 1",
        ),
        (
            lambda p: distill.projectors.merge_lora(p, {}, scale=float("nan")),
            "scale must be finite",
        ),
        (
            lambda p: distill.projectors.lora_shapes(
                {"kernel": jnp.ones((3, 1, 2, 4))}, {"kernel": 1}, form=distill.projectors.LORALIB
            ),
            r"square windows, a kernel has the shape \(3, 1, 2, 4\); use CONV1X1",
        ),
    ],
)
def test_numbers_that_make_no_adapter_are_refused(network, call, message):
    with pytest.raises(ValueError, match=message):
        call(network[1])


def test_a_merged_kernel_is_the_old_one_and_a_multiple_of_the_product_of_its_factors(rng):
    def draw(*shape):
        return rng.normal(size=shape).astype("f4")

    shapes = {"dense": (6, 4), "conv": (3, 3, 2, 5)}
    params = {name: {"kernel": draw(*shape)} for name, shape in shapes.items()}
    factors = {"dense": ((6, 2), (2, 4)), "conv": ((3, 3, 2, 3), (3, 5))}
    adapter = {f"{name}/kernel": {"a": draw(*a), "b": draw(*b)} for name, (a, b) in factors.items()}
    merged = distill.projectors.merge_lora(params, adapter, scale=0.7)
    for name, shape in shapes.items():
        a, b = adapter[f"{name}/kernel"].values()
        # A convolution's kernel is a matrix from the pixels of a window to the channels.
        product = (a.reshape(-1, a.shape[-1]) @ b).reshape(shape)
        expected = params[name]["kernel"] + 0.7 * product
        np.testing.assert_allclose(merged[name]["kernel"], expected, rtol=1e-5, atol=1e-5)


def test_the_convolution_of_peft_is_a_window_then_a_pointwise_one(network):
    _, params, images = network
    adapter = filled(distill.projectors.lora_shapes(params, {"Conv_0/kernel": 3}))
    a, b = adapter["Conv_0/kernel"].values()
    change = (
        distill.projectors.merge_lora(params, adapter)["Conv_0"]["kernel"]
        - params["Conv_0"]["kernel"]
    )
    expected = np.einsum("hwir,ro->hwio", a, b)
    np.testing.assert_allclose(change, expected, rtol=1e-4, atol=1e-5)


def test_the_convolution_of_loralib_is_one_product_seen_as_windows(rng):
    a, b = rng.normal(size=(6, 12)).astype("f4"), rng.normal(size=(15, 6)).astype("f4")
    change = distill.projectors.LORALIB.delta(jnp.asarray(a), jnp.asarray(b), (3, 3, 4, 5))
    seen = (b @ a).reshape(5, 4, 3, 3)
    for out, into, row, column in [(0, 0, 0, 1), (4, 2, 1, 0), (3, 3, 2, 2)]:
        np.testing.assert_allclose(
            change[row, column, into, out], seen[out, into, row, column], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        # r (k k I + O) and r (in + out) for CONV1X1, r k k (I + O) for LORALIB.
        (distill.projectors.CONV1X1, 3 * (27 + 6) + 3 * (6 + 5) + 2 * (80 + 4)),
        (distill.projectors.LORALIB, 3 * 9 * (3 + 6) + 3 * (6 + 5) + 2 * (80 + 4)),
    ],
)
def test_counts_need_no_arrays(network, form, expected):
    _, params, _ = network
    shapes = jax.eval_shape(lambda: params)
    assert (
        distill.projectors.count_parameters(
            distill.projectors.lora_shapes(shapes, EVERYTHING, form=form)
        )
        == expected
    )
    adapter = distill.projectors.init_lora(jax.random.key(0), params, EVERYTHING, form=form)
    assert distill.projectors.count_parameters(adapter) == expected
    assert distill.ledger.tree_bytes(
        shapes, jnp.float16
    ) == 2 * distill.projectors.count_parameters(params)


def test_unknown_paths_and_foreign_adapters_are_named(network):
    model, params, images = network
    with pytest.raises(ValueError, match="'nowhere' is found in no path"):
        distill.projectors.lora_shapes(params, {"nowhere": 2})
    with pytest.raises(ValueError, match="neither a dense kernel"):
        distill.projectors.lora_shapes(params, {"bias": 2})
    with pytest.raises(
        ValueError, match=r"\['Dense_0/kernel'\] must be an integer from 1 on, got 0"
    ):
        distill.projectors.lora_shapes(params, {"Dense_0/kernel": 0})
    adapter = filled(distill.projectors.lora_shapes(params, {"Dense_0/kernel": 2}))
    with pytest.raises(ValueError, match="Dense_9/kernel are no parameters"):
        distill.projectors.merge_lora(params, {"Dense_9/kernel": adapter["Dense_0/kernel"]})
    with pytest.raises(ValueError, match="for a kernel of shape"):
        distill.projectors.merge_lora(params, {"Conv_1/kernel": adapter["Dense_0/kernel"]})
    with pytest.raises(ValueError, match="no dense or convolutional layer used"):
        distill.projectors.apply_unmerged(lambda params, images: images, params, adapter, images)


@pytest.mark.slow
def test_the_start_of_a_projector_is_zero_shot_classification():
    model = models.ViT(num_classes=4, width=8, depth=1, heads=2)
    images = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    params = model.init(jax.random.key(1), images, method="features")["params"]
    words = evaluation.unit_rows(jax.random.normal(jax.random.key(2), (4, 8))).T

    def encode(params, images):
        return model.apply({"params": params}, images, method="features")

    ranks = {distill.projectors.VIT_TARGETS: 2}
    adapter = distill.projectors.init_projector(
        jax.random.key(3), params, words, ranks, head_rank=2, scale=7.0
    )
    features = encode(params, images)
    cosines = features / np.linalg.norm(features, axis=1, keepdims=True) @ words
    found = distill.projectors.project(encode, params, words, adapter, images)
    np.testing.assert_allclose(found, 7 * cosines, rtol=1e-5, atol=1e-5)
    shapes = distill.projectors.projector_shapes(params, ranks, dim=8, num_classes=4, head_rank=2)
    assert distill.projectors.count_parameters(shapes) == distill.projectors.count_parameters(
        adapter
    )
    # query, key, value, out, fc1, fc2; head; scale and offset
    assert distill.projectors.count_parameters(adapter) == 2 * (4 * 16 + 2 * 40) + 2 * (8 + 4) + 2

    def loss(adapter, params, words):
        logits = distill.projectors.project(encode, params, words, adapter, images)
        return distill.projectors.projector_loss(
            logits, jnp.ones((3, 4)), jnp.array([0, 1, 2])
        ).sum()

    to_adapter, to_params, to_words = jax.grad(loss, (0, 1, 2))(adapter, params, words)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves((to_params, to_words)))
    for factors in [*to_adapter["encoder"].values(), to_adapter["head"]]:
        assert np.any(factors["b"])
        assert not np.any(factors["a"])


@pytest.mark.slow
def test_the_mean_of_weak_teachers_has_the_gradient_of_the_mean_of_the_errors(rng):
    teachers = jnp.asarray(rng.normal(size=(3, 2, 4)), jnp.float32)
    logits = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    labels = jnp.array([1, 3])

    def loss(logits, targets):
        return distill.projectors.projector_loss(logits, targets, labels, ce_weight=0.0).sum()

    each = jax.vmap(jax.grad(loss), (None, 0))(logits, teachers).mean(0)
    mean = jax.grad(loss)(logits, distill.projectors.weak_targets(teachers))
    np.testing.assert_allclose(mean, each, rtol=1e-4, atol=1e-6)
    # A constant added to the teacher changes nothing.
    shifted = distill.projectors.projector_loss(logits, teachers[0] + 17, labels)
    np.testing.assert_allclose(
        shifted, distill.projectors.projector_loss(logits, teachers[0], labels), rtol=1e-4
    )
