"""The adapter of the paper: its printed sizes are those of CLIP RN50's bottlenecks."""

import jax
import jax.numpy as jnp
import pytest

from lnl_jax import distill

MEBI = 2**20


def rn50_shapes():
    """Kernels of CLIP's RN50 image tower."""

    def kernel(*shape):
        return {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}

    tower = {"conv1": kernel(3, 3, 3, 32), "conv2": kernel(3, 3, 32, 32)}
    tower |= {"conv3": kernel(3, 3, 32, 64)}
    inputs = 64
    for layer, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**layer
        for index in range(blocks):
            block = {"conv1": kernel(1, 1, inputs, width), "conv2": kernel(3, 3, width, width)}
            block |= {"conv3": kernel(1, 1, width, 4 * width)}
            if not index:
                block["shortcut"] = kernel(1, 1, inputs, 4 * width)
            tower[f"layer{layer + 1}_{index}"] = block
            inputs = 4 * width
    return tower


@pytest.mark.parametrize(("head_rank", "printed"), [(None, 1.5), (128, 0.8)])
def test_the_sizes_that_hello_prints(head_rank, printed):
    shapes = distill.projector_shapes(
        rn50_shapes(), {distill.RN50_TARGETS: 8}, dim=1024, num_classes=1000, head_rank=head_rank
    )
    assert len(shapes["encoder"]) == 48
    assert distill.count_parameters(shapes["encoder"]) == 588_288
    count = distill.count_parameters(shapes)
    assert round(count / MEBI, 1) == printed
    # Scale and offset are counted besides.
    head = 1024 * 1000 if head_rank is None else 128 * (1024 + 1000)
    assert count == 588_288 + head + 2
