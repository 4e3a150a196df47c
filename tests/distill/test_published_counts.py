"""The adapter of the paper: its printed sizes are those of CLIP RN50's bottlenecks."""

import jax
import jax.numpy as jnp
import pytest

from lnl_jax import distill, models

MEBI = 2**20
IMAGES = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


def shapes_of(tower):
    return jax.eval_shape(tower.init, jax.random.key(0), IMAGES)["params"]


@pytest.fixture(scope="module")
def rn50():
    return shapes_of(models.clip_rn50().image)


@pytest.mark.parametrize(("head_rank", "printed"), [(None, 1.5), (128, 0.8)])
def test_the_sizes_that_hello_prints(rn50, head_rank, printed):
    ranks = {distill.projectors.RN50_TARGETS: 8}
    shapes = distill.projectors.projector_shapes(
        rn50, ranks, dim=1024, num_classes=1000, head_rank=head_rank
    )
    assert len(shapes["encoder"]) == 48
    assert distill.projectors.count_parameters(shapes["encoder"]) == 588_288
    count = distill.projectors.count_parameters(shapes)
    assert round(count / MEBI, 1) == printed
    # Scale and offset are counted besides.
    head = 1024 * 1000 if head_rank is None else 128 * (1024 + 1000)
    assert count == 588_288 + head + 2


def test_the_matrices_of_the_transformer():
    found = distill.projectors.lora_shapes(
        shapes_of(models.clip_vit_b32().image), {distill.projectors.VIT_TARGETS: 8}
    )
    assert len(found) == 12 * 6
    assert distill.projectors.count_parameters(found) == 12 * 8 * (
        4 * 2 * 768 + 2 * (768 + 4 * 768)
    )
