import csv
import functools
import io
import sys

import numpy as np
import pytest

from experiments.robust_losses.frozen_features import frozen_features
from lnl_jax import data
from lnl_jax.comparison import catalogue
from lnl_jax.comparison.feature_heads import HEAD_METRICS
from lnl_jax.comparison.methods import best_setting
from lnl_jax.comparison.named_noises import noisy_labels
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.comparison.tower_features import read_features
from lnl_jax.data.dataset import splits_of
from lnl_jax.runner import Artifact, StudyError

CLASSES, SEEDS = 4, 2
NOISES = ("none", "worse", "symmetric_40")
LOSSES = ("ldr_kl", "relabelled_cross_entropy", "weighted_knn")
TRAINED = ["cross_entropy_weight_decay", "cross_entropy", *LOSSES]


def arrays():
    rng = np.random.default_rng(0)
    clean = np.arange(280) % CLASSES
    x = np.float32(3 * np.eye(CLASSES)[clean] + rng.normal(size=(280, CLASSES)))
    worse = np.where(rng.random(200) < 0.4, rng.integers(0, CLASSES, 200), clean[:200])
    parts = {"x_train": x[:200], "y_train": clean[:200], "y_train_worse": worse}
    return parts | {"x_test": x[200:], "y_test": clean[200:]}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    np.savez(folder / "own.npz", **arrays())
    outputs = frozen_features(
        dataset=functools.partial(OWN_SETS["npz"], name="own"),
        noises=NOISES,
        losses=LOSSES,
        seeds=SEEDS,
        epochs=12,
        batch_size=16,
        learning_rates=(0.1,),
        weight_decays=(1e-3, 1e-1),
        folds=2,
        data_dir=str(folder),
    )
    return {output.name: output.value for output in outputs if isinstance(output, Artifact)}


def cells_of(found):
    lines = csv.DictReader(io.StringIO(found["results.csv"].decode()))
    return {(line["noise"], line["loss"]): line for line in lines}


def test_without_a_name_the_whole_catalogue_is_compared(monkeypatch):
    class Asked(Exception):
        pass

    def head_methods(names, *arguments):
        raise Asked(names)

    study = sys.modules[frozen_features.__module__]
    monkeypatch.setattr(study, "head_methods", head_methods)
    with pytest.raises(Asked) as asked:
        list(frozen_features(losses=(), seeds=2))
    assert set(asked.value.args[0]) == {*catalogue.LOSSES}


@pytest.mark.slow
def test_every_noise_has_its_own_setting_chosen_by_noisy_validation_labels(found):
    cells = cells_of(found)
    assert [*cells] == [(noise, name) for noise in NOISES for name in TRAINED]
    for name in TRAINED:
        for at, noise in enumerate(NOISES):
            own = found["history"][name][:, -1, at * SEEDS : (at + 1) * SEEDS]
            accuracy = own[HEAD_METRICS.index("accuracy"), :, best_setting(own)]
            written = float(cells[noise, name]["accuracy %"])
            np.testing.assert_allclose(written, 100 * accuracy.mean(), rtol=1e-6)
            assert written > 60


@pytest.mark.slow
def test_gains_are_over_cross_entropy_with_the_best_weight_decay(found):
    cells = cells_of(found)
    for (noise, name), row in cells.items():
        if name != TRAINED[0]:
            baseline = float(cells[noise, TRAINED[0]]["accuracy %"])
            gain = float(row["accuracy %"]) - baseline
            np.testing.assert_allclose(float(row["gain"]), gain, atol=1e-5)
    assert "weight_decay" in cells["worse", TRAINED[0]]["chosen"]
    assert "weight_decay" not in cells["worse", "cross_entropy"]["chosen"]


@pytest.mark.slow
def test_false_labels_are_found_where_there_are_any(found):
    rows = [row for row in found["detection"] if row["noise"] == "worse"]
    assert all(row["AUROC"] > 0.8 for row in rows)
    assert not any(row["noise"] == "none" for row in found["detection"])


def splits():
    return splits_of(arrays())


def test_noises_are_made_or_are_labels_of_the_set():
    own = splits()
    np.testing.assert_array_equal(noisy_labels(own, "none", 0), own.train["label"])
    np.testing.assert_array_equal(noisy_labels(own, "worse", 0), own.train["label_worse"])
    flipped = noisy_labels(own, "pairflip_40", 0) - own.train["label"]
    assert set((flipped % CLASSES).tolist()) == {0, 1}
    assert 0.3 < (flipped != 0).mean() < 0.5
    assert (noisy_labels(own, "pairflip_40", 1) != noisy_labels(own, "pairflip_40", 0)).any()


def test_another_noise_is_refused_with_those_there_are():
    with pytest.raises(StudyError, match=r"symmetric_NN, .*or labels of the set, worse; got best"):
        noisy_labels(splits(), "best", 0)


def test_images_without_a_tower_are_refused():
    images = {"image": np.zeros((2, 8, 8, 3), np.uint8)}
    with pytest.raises(StudyError, match="give tower PATH"):
        read_features(data.Splits(images, images, 2), None, 224, None)
