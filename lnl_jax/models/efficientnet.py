"""EfficientNet-Lite: inverted residuals with depthwise convolutions, small enough for a CPU."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._batch_norm import BatchNorm
from lnl_jax.models._checks import check_images, check_sizes
from lnl_jax.models._convolution import he_normal
from lnl_jax.models._depthwise import depthwise
from lnl_jax.models._head import head

# Of the weights that are published.
MOMENTUM, EPSILON = 0.99, 1e-3


class Stage(NamedTuple):
    """Blocks of one width, of which the first has the stride.

    Attributes:
        repeats: how many blocks.
        size: of the depthwise kernels, in pixels.
        stride: of the first block.
        expansion: what the channels are multiplied by inside a block.
        features: channels that come out.
    """

    repeats: int
    size: int
    stride: int
    expansion: int
    features: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def relu6(inputs: Array) -> Array:
    """Cut off below 0 and above 6."""
    return jnp.clip(inputs, 0, 6)


class EfficientNetLite(nn.Module):
    """A network of inverted residuals, without squeeze and excitation, by default Lite0.

    Its parameters: `first`, `first_norm`; ``blocks_0`` and so on, each with `expand` and
    `expand_norm` where it widens, `depthwise`, `depthwise_norm`, `project` and `project_norm`;
    `last`, `last_norm`; `scores`. What others call convolutions of 1x1 pixels are matrices
    ``[in, out]``, as in dense layers, which low-rank adapters take as they are. Batch norm keeps
    0.99 of its running statistics at each step and adds 1e-3 to the variance. It is differentiated
    in reverse mode only.

    Attributes:
        num_classes: K; None leaves out the last layer and gives the features, the mean over the
            image of what `last_norm` gives.
        stages: of the blocks; a tuple of `Stage`, or of five integers each.
        stem: channels of the first convolution, of 3x3 pixels and stride 2.
        top: channels of the last one, of 1x1 pixels: the number of features.
        dtype: of the computation; parameters, statistics and result are float32 all the same.
        axis_name: of the devices that share batch statistics, inside `pmap` and `shard_map` only.

    Example:
        >>> model = EfficientNetLite(10, stages=((1, 3, 1, 1, 4), (2, 5, 2, 6, 8)), stem=4, top=16)
        >>> images = jnp.zeros((2, 8, 8, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> jax.eval_shape(model.apply, variables, images).shape
        (2, 10)
        >>> jax.eval_shape(model.clone(num_classes=None).apply, variables, images).shape
        (2, 16)

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
        (ICML 2019), table 1; Sandler et al., "MobileNetV2: Inverted Residuals and Linear
        Bottlenecks" (CVPR 2018), section 3.
    """

    num_classes: int | None = 1000
    stages: Sequence[Sequence[int]] = LITE0
    stem: int = 32
    top: int = 1280
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        """The layers."""
        stages = [Stage(*stage) for stage in self.stages]
        for index, stage in enumerate(stages):
            check_sizes(**{f"stages[{index}]": tuple(stage)})
        check_sizes(num_classes=self.num_classes, stem=self.stem, top=self.top)
        self.first = nn.Conv(
            self.stem,
            (3, 3),
            2,
            padding="SAME",
            use_bias=False,
            dtype=self.dtype,
            kernel_init=he_normal,
        )
        self.first_norm = BatchNorm(MOMENTUM, EPSILON, self.axis_name)
        self.blocks = [
            InvertedResidual(
                stage.features,
                stage.size,
                stage.stride if place == 0 else 1,
                stage.expansion,
                place > 0,
                self.dtype,
                self.axis_name,
            )
            for stage in stages
            for place in range(stage.repeats)
        ]
        self.last = _pointwise(self.top, self.dtype)
        self.last_norm = BatchNorm(MOMENTUM, EPSILON, self.axis_name)
        if self.num_classes is not None:
            self.scores = head(self.num_classes)

    def __call__(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """Scores, or features where there is no last layer.

        Args:
            images: ``[B, H, W, C]``, floating point: `lnl_jax.data.preprocess.efficientnet_images`
                for the published weights.
            train: normalise by the batch and update the running statistics; the caller passes
                ``mutable=["batch_stats"]``.
            mask: boolean, ``[B]``; the examples that enter the batch statistics. All by default.

        Returns:
            ``[B, K]``, or ``[B, D]`` features; float32.

        Raises:
            ValueError: if the images have another shape or type, or fewer rows or columns than the
                product of all strides, or a size is less than 1.
        """
        hidden = self.until(images, len(self.blocks), train=train, mask=mask)
        return self.onwards(hidden, len(self.blocks), train=train, mask=mask)

    def until(
        self, images: Array, block: int, *, train: bool = False, mask: Array | None = None
    ) -> Array:
        """What goes into ``blocks_`` of this number: the part that a frozen prefix computes once.

        Args:
            images: as `__call__` takes them.
            block: static, from 0 to the number of blocks.
            train: as `__call__` takes it.
            mask: as `__call__` takes it.

        Returns:
            ``[B, H', W', C']``, in the `dtype`.
        """
        check_images(images)
        least = 2
        for stage in self.stages:
            least *= Stage(*stage).stride
        if min(images.shape[1:3]) < least:
            raise ValueError(
                f"images must have at least {least} rows and columns, the product of all strides, "
                f"got the shape {images.shape}; resize them."
            )
        hidden = self.first(images.astype(self.dtype))
        hidden = relu6(self.first_norm(hidden, train=train, mask=mask))
        for one in self.blocks[:block]:
            hidden = one(hidden, train=train, mask=mask)
        return hidden

    def onwards(
        self, hidden: Array, block: int, *, train: bool = False, mask: Array | None = None
    ) -> Array:
        """Goes on from ``blocks_`` of this number.

        Args:
            hidden: of `until`, with the same `block`.
            block: static.
            train: as `__call__` takes it.
            mask: as `__call__` takes it.

        Returns:
            As `__call__`.
        """
        for one in self.blocks[block:]:
            hidden = one(hidden, train=train, mask=mask)
        hidden = relu6(self.last_norm(self.last(hidden), train=train, mask=mask))
        features = hidden.astype(jnp.float32).mean((1, 2))
        return features if self.num_classes is None else self.scores(features)


class InvertedResidual(nn.Module):
    """Widens, convolves each channel alone, and narrows without a nonlinearity.

    Attributes:
        features: channels that come out.
        size: of the depthwise kernel.
        stride: of the depthwise convolution.
        expansion: what the channels are multiplied by; 1 leaves the first layer out.
        residual: what goes in is added.
        dtype: of the computation.
        axis_name: of the devices that share batch statistics.
    """

    features: int
    size: int
    stride: int
    expansion: int
    residual: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool, mask: Array | None) -> Array:
        """One block: ``[B, H, W, C]`` to ``[B, ceil(H / stride), ceil(W / stride), features]``."""

        def norm(name: str, values: Array) -> Array:
            layer = BatchNorm(MOMENTUM, EPSILON, self.axis_name, name=name)
            return layer(values, train=train, mask=mask)

        hidden, width = inputs, inputs.shape[-1] * self.expansion
        if self.expansion != 1:
            hidden = _pointwise(width, self.dtype, "expand")(hidden)
            hidden = relu6(norm("expand_norm", hidden))
        kernel = self.param("depthwise", _by_place, (self.size, self.size, width))
        hidden = depthwise(hidden, kernel.astype(self.dtype), self.stride)
        hidden = relu6(norm("depthwise_norm", hidden))
        hidden = norm("project_norm", _pointwise(self.features, self.dtype, "project")(hidden))
        return hidden + inputs if self.residual else hidden


def _pointwise(features: int, dtype: Any, name: str | None = None) -> nn.Dense:
    return nn.Dense(features, use_bias=False, dtype=dtype, kernel_init=he_normal, name=name)


def _by_place(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """He normal: each channel that goes out is connected to the places of one kernel."""
    return jax.random.normal(key, shape, dtype) * (2 / (shape[0] * shape[1])) ** 0.5
