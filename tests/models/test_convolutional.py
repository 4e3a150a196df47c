"""What the convolutional networks have in common, and what each of them is."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import models
from lnl_jax.models import ConvNet, ResNet, WideResNet

SMALL = {
    "one_block": ResNet(3, (1,), 2),
    "projected": ResNet(3, (1, 1), 2),
    "zero_padded": ResNet(3, (1, 1), 2, models.zero_padded),
    "wide": WideResNet(3, blocks=1, widen=1),
    "convnet": ConvNet(3, width=4, depth=2),
}


SLOW = {name: pytest.param(name, marks=pytest.mark.slow) for name in SMALL if name != "one_block"}


@functools.cache
def initial(model, channels=3, size=8):
    """Variables of the right shapes; compiling the initialisation would take seconds."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, channels)))

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            values = rng.uniform(0.5, 2, leaf.shape)
        else:
            values = rng.normal(size=leaf.shape)
        if name == "kernel":
            values *= np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def drawn(rng, batch=6, rows=8, columns=8):
    return jnp.asarray(rng.normal(size=(batch, rows, columns, 3)), jnp.float32)


def parameters(model, size=32):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("model", "count"),
    [
        # The counts of the usual PyTorch implementations for CIFAR-10.
        pytest.param(models.resnet18(10), 11_173_962, marks=pytest.mark.slow),
        pytest.param(models.resnet34(10), 21_282_122, marks=pytest.mark.slow),
        # That of torchvision for ImageNet.
        pytest.param(
            models.resnet18(1000).clone(stem=models.pooled_stem), 11_689_512, marks=pytest.mark.slow
        ),
        pytest.param(models.wide_resnet28(10), 36_479_194, marks=pytest.mark.slow),
        (models.resnet20(10), 269_722),
        # 320,010 in the papers, with biases that the normalisation cancels.
        (models.convnet(10), 320_010 - 3 * 128),
    ],
)
def test_published_counts_of_parameters(model, count):
    assert parameters(model) == count


def test_the_pooled_stem_is_a_strided_convolution_and_maxima(rng):
    images = jnp.asarray(rng.normal(size=(1, 9, 9, 1)), jnp.float32)

    def layer(features, size, stride):
        assert (features, size, stride) == (1, 7, 2)
        return lambda inputs: inputs[:, ::2, ::2]

    found = models.pooled_stem(images, 1, layer)
    whole = np.pad(np.maximum(images[0, ::2, ::2, 0], 0), 1)
    expected = [[whole[r : r + 3, c : c + 3].max() for c in (0, 2, 4)] for r in (0, 2, 4)]
    np.testing.assert_array_equal(found[0, ..., 0], expected)


def basic_block(inputs, outputs, projection):
    """Two convolutions and two batch norms; perhaps one more of each."""
    count = 9 * inputs * outputs + 9 * outputs**2 + 4 * outputs
    return count + (inputs * outputs + 2 * outputs if projection else 0)


@pytest.mark.parametrize("width", [4, 6])
def test_counts_in_closed_form(width):
    w = width
    stem, head = 27 * w + 2 * w, 40 * w + 10
    option_a = [basic_block(w, w, False), basic_block(w, 2 * w, False)]
    option_a.append(basic_block(2 * w, 4 * w, False))
    assert parameters(models.resnet8(10, width=w), 8) == stem + sum(option_a) + head
    stages = [(w, w, False), (w, 2 * w, True), (2 * w, 4 * w, True), (4 * w, 8 * w, True)]
    option_b = sum(basic_block(*s) + basic_block(s[1], s[1], False) for s in stages)
    assert parameters(models.resnet18(10, width=w), 8) == stem + option_b + 80 * w + 10


CONSTRUCTORS = {
    models.resnet8: {"width": int},
    models.resnet18: {"width": int},
    models.resnet20: {"width": int},
    models.resnet34: {"width": int},
    models.wide_resnet28: {"widen": int, "dropout": float},
    models.convnet: {"width": int, "depth": int},
    models.vit: dict.fromkeys(("width", "depth", "heads", "patch_size"), int),
}


@pytest.mark.parametrize("make", CONSTRUCTORS, ids=lambda make: make.__name__)
def test_a_command_line_can_set_what_a_constructor_takes(make):
    """Keywords with a default of the annotated type, which reach the module."""
    number, *options = inspect.signature(make).parameters.values()
    assert (number.name, number.annotation) == ("num_classes", int)
    assert {option.name: option.annotation for option in options} == CONSTRUCTORS[make]
    for option in options:
        assert option.kind is inspect.Parameter.KEYWORD_ONLY
        assert type(option.default) is option.annotation
        model = make(7, **{option.name: option.annotation(option.default + 1)})
        assert getattr(model, option.name) == option.default + 1
        assert model.num_classes == 7


@pytest.mark.parametrize("name", [SLOW.get(name, name) for name in SMALL])
def test_evaluation_takes_each_image_alone(rng, name):
    model, images = SMALL[name], drawn(rng)
    scores = model.apply(initial(model), images, train=False)
    assert (scores.shape, scores.dtype) == ((6, 3), jnp.float32)
    alone = model.apply(initial(model), images[2:3])
    np.testing.assert_allclose(scores[2:3], alone, rtol=1e-4, atol=1e-5)


def trained(model, variables, images, mask=None):
    """Loss, gradient and new statistics, over the examples that count."""

    def loss(params):
        scores, new = model.apply(
            variables | {"params": params},
            images,
            train=True,
            mask=mask,
            mutable=["batch_stats"],
        )
        losses = jnp.square(scores - 1).sum(-1)
        return (losses if mask is None else jnp.where(mask, losses, 0)).sum(), new

    (value, new), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return value, gradient, new


@pytest.mark.parametrize("name", [SLOW.get(name, name) for name in SMALL])
@pytest.mark.slow
def test_a_padded_batch_trains_as_the_unpadded_one(rng, name):
    model, images = SMALL[name], drawn(rng)
    variables = initial(model)
    padded = trained(model, variables, images.at[4:].mul(9), jnp.arange(6) < 4)
    expected = trained(model, variables, images[:4])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3), padded, expected
    )
    value, gradient, new = expected
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradient)), "a layer without gradient"
    if name == "convnet":
        assert not new
    else:
        changed = jax.tree.map(
            lambda a, b: (a != b).all(), new, {"batch_stats": variables["batch_stats"]}
        )
        assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize("name", ["one_block", SLOW["convnet"]])
def test_computation_in_bfloat16_with_variables_and_scores_in_float32(rng, name):
    model, images = SMALL[name], drawn(rng)
    variables = initial(model)
    scores, new = model.clone(dtype=jnp.bfloat16).apply(
        variables, images, train=True, mutable=["batch_stats"]
    )
    expected, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
    leaves = jax.tree.leaves((scores, new, initial(model.clone(dtype=jnp.bfloat16))))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
    difference = np.abs(scores - expected).max()
    assert 1e-6 < difference < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(("rows", "columns"), [(8, 11), (9, 13)])
def test_a_zero_padded_shortcut_keeps_the_pixels_that_the_stride_keeps(rng, rows, columns):
    inputs = jnp.asarray(rng.normal(size=(2, rows, columns, 3)), jnp.float32)
    outputs = models.zero_padded(inputs, 7, 2, None)
    np.testing.assert_array_equal(outputs[..., :3], inputs[:, ::2, ::2])
    np.testing.assert_array_equal(outputs[..., 3:], 0)
    np.testing.assert_array_equal(models.zero_padded(inputs, 3, 1, None), inputs)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(8, 8), (9, 11), (32, 28)])
def test_any_image_of_eight_pixels_or_more_has_scores(name, shape):
    images = jnp.zeros((2, *shape, 3))
    scores = jax.eval_shape(SMALL[name].init_with_output, jax.random.key(0), images)[0]
    assert scores.shape == (2, 3)


@pytest.mark.slow
def test_dropout_is_of_training_alone(rng):
    model, images = WideResNet(3, blocks=1, widen=1, dropout=0.5), drawn(rng)
    variables = initial(SMALL["wide"])
    plain = SMALL["wide"].apply(variables, images)
    np.testing.assert_array_equal(model.apply(variables, images), plain)

    @jax.jit
    def total(key):
        scores, _ = model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return scores.sum()

    values = [total(jax.random.key(seed)) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_a_block_adds_its_shortcut(rng):
    """With a last scale of zero a block is the rectified shortcut: here, the stem's output."""
    model, images = ResNet(3, (1,), 4), drawn(rng)
    variables = jax.tree.map(lambda leaf: leaf, initial(model))
    variables["params"]["BatchNorm_2"] = dict.fromkeys(("scale", "bias"), jnp.zeros(4))
    variables["params"]["Dense_0"]["kernel"] = jnp.eye(4, 3)
    stem = {
        "params": {
            name: variables["params"][name] for name in ("Conv_0", "BatchNorm_0", "Dense_0")
        },
        "batch_stats": {"BatchNorm_0": variables["batch_stats"]["BatchNorm_0"]},
    }
    np.testing.assert_allclose(
        model.apply(variables, images), ResNet(3, (), 4).apply(stem, images), rtol=1e-5, atol=1e-6
    )


def test_the_convnet_normalises_each_image_and_channel(rng):
    model, images = SMALL["convnet"], drawn(rng)
    variables = initial(model)
    scores = model.apply(variables, images)
    rescaled = model.apply(variables, 50 * images)
    np.testing.assert_allclose(scores, rescaled, rtol=1e-3, atol=1e-3)


def test_a_strided_convnet_grows_and_pools_nothing():
    model, images = ConvNet(3, width=2, growth=3, stride=2), jnp.zeros((1, 8, 8, 1))
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    kernels = [params[name]["kernel"].shape for name in ("Conv_0", "Conv_1", "Conv_2", "Dense_0")]
    # The last eight by eight pixels have become one.
    assert kernels == [(3, 3, 1, 2), (3, 3, 2, 6), (3, 3, 6, 18), (18, 3)]
    with pytest.raises(ValueError, match="stride must be 1, with pooling, or 2, without; got 3"):
        jax.eval_shape(ConvNet(3, stride=3).init, jax.random.key(0), images)


def test_the_mlp_is_called_alike(rng):
    model, images = models.MLP(3, hidden=(4,)), drawn(rng)
    variables = initial(model)
    scores, new = model.apply(
        variables, images, train=True, mask=jnp.arange(6) < 4, mutable=["batch_stats"]
    )
    np.testing.assert_array_equal(scores, model.apply(variables, images))
    assert not new


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "images", [jnp.zeros((2, 8, 8)), jnp.zeros((2, 8, 8, 3), jnp.uint8)], ids=["rank", "integers"]
)
def test_images_of_another_form_are_refused(name, images):
    with pytest.raises(ValueError, match="images must be floating point of shape"):
        jax.eval_shape(SMALL[name].init, jax.random.key(0), images)


def test_images_too_small_for_the_depth_are_refused():
    with pytest.raises(ValueError, match=r"they need at least 16 rows"):
        jax.eval_shape(ConvNet(3, depth=4).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
