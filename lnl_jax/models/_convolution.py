"""The square convolutions of all networks of images."""

from typing import Any

from flax import linen as nn

# He normal over the outgoing connections, as `kaiming_normal_(mode="fan_out")`; not truncated.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def convolution(features: int, size: int, stride: int, dtype: Any) -> nn.Conv:
    """A layer without a bias for ``[B, H, W, C]``, padded with ``size // 2`` zeros on each side.

    An image of H rows becomes one of ``ceil(H / stride)``, as in PyTorch's networks; "SAME" of
    flax would pad the strided ones on one side only.
    """
    return nn.Conv(
        features,
        (size, size),
        stride,
        padding=size // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal,
    )
