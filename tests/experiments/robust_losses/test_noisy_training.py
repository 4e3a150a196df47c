import functools

import numpy as np
import pytest

from experiments.robust_losses._shared import standardized, with_labels
from experiments.robust_losses.noisy_training import noisy_training
from lnl_jax import data
from lnl_jax.comparison.noisy_catalogue import Grids
from lnl_jax.comparison.noisy_methods import NOISY_METRICS
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.runner import Artifact, StudyError

ONE_EACH = Grids((0.7,), (10.0,), (0.7,), (3.0,), (0.08,), (0.08,), (0.4,), (5.0,), (25.0,), (1.0,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of lines that lie or stand by class, and labels of which a fifth is another class."""
    rng = np.random.default_rng(0)
    clean = np.arange(100) % 2
    lines = 120 * (np.indices((8, 8)) % 2)[clean]
    images = (rng.integers(0, 60, (100, 8, 8)) + lines)[..., None]
    worse = np.where(np.arange(100) % 10 < 2, 1 - clean, clean)
    parts = {"x_train": np.uint8(images[:80]), "y_train": clean[:80], "y_train_worse": worse[:80]}
    path = tmp_path_factory.mktemp("images")
    np.savez(path / "own.npz", **parts, x_test=np.uint8(images[80:]), y_test=clean[80:])
    return str(path)


def own(folder):
    return functools.partial(OWN_SETS["npz"], name="own")(folder)


def test_other_labels_of_the_set_are_trained_on_and_its_own_are_the_truth(folder):
    splits = with_labels(own(folder), "worse")
    assert not splits.given
    assert (splits.train["label"] != splits.train["clean_label"]).mean() == pytest.approx(0.2)
    with pytest.raises(StudyError, match="labels must be of worse; got better"):
        with_labels(own(folder), "better")
    with pytest.raises(StudyError, match="labels must be none: the set has no others; got worse"):
        with_labels(data.Splits({}, {}, 2, ()), "worse")


def test_images_become_numbers_of_mean_0_and_deviation_1_in_the_training_part(folder):
    x = standardized(own(folder)).train["x"]
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-4)


@pytest.mark.slow
def test_methods_of_every_kind_train_on_images_with_labels_of_the_set(folder):
    outputs = noisy_training(
        dataset=functools.partial(OWN_SETS["npz"], name="own"),
        data_dir=folder,
        noise=lambda num_classes, rate: np.eye(num_classes),
        labels="worse",
        seeds=2,
        methods=("elr_step", "co_teaching", "nested_dropout", "divide_mix", "storm"),
        epochs=1,
        batch_size=16,
        learning_rates=(0.05,),
        hidden=(8,),
        grids=ONE_EACH,
    )
    found = {output.name: output.value for output in outputs if isinstance(output, Artifact)}
    assert len(found["history"]) == 6
    for name, values in found["history"].items():
        assert values.shape == (len(NOISY_METRICS), 1, 2, 1), name
        assert np.isfinite(values).all(), name


def test_settings_that_belong_together_are_as_many():
    with pytest.raises(StudyError, match="grids: "):
        Grids(elr_momenta=(0.7,)).of_losses()
