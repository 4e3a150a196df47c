"""Features of a tower in place of images: kept with what they are of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.label_quality.label_issues import label_issues
from lnl_jax import models
from lnl_jax.comparison.tower_features import tower_features
from lnl_jax.models.efficientnet_weights import LoadedEfficientNet


@pytest.fixture(autouse=True)
def _a_tiny_tower(monkeypatch):
    model = models.EfficientNetLite(3, stages=((1, 3, 1, 1, 4),), stem=4, top=5)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    loaded = LoadedEfficientNet(model, variables)
    monkeypatch.setattr(models, "load_efficientnet", lambda path: loaded)


def test_features_are_kept_and_those_of_other_images_or_sizes_are_refused(rng, tmp_path):
    images = rng.integers(0, 256, (6, 8, 8, 3), np.uint8)
    cache = str(tmp_path / "features.npz")
    found = tower_features(images, "tower", pixels=16, cache=cache)
    assert found.shape == (6, 5)
    np.testing.assert_array_equal(tower_features(images, "tower", pixels=16, cache=cache), found)
    with pytest.raises(ValueError, match="features of other data: size 16 and not 24"):
        tower_features(images, "tower", pixels=24, cache=cache)
    with pytest.raises(ValueError, match="features of other data: images"):
        tower_features(images[::-1], "tower", pixels=16, cache=cache)
    with pytest.raises(ValueError, match=r"does not take images .* at size=1: .*resize them"):
        tower_features(images, "tower", pixels=1)


def test_grey_images_have_no_features_of_a_tower():
    with pytest.raises(ValueError, match="tower takes colour images"):
        next(label_issues(tower="tower"))
