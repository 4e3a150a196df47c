import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.robust_losses.ldr_cifar import NOISES, ldr_cifar
from experiments.robust_losses.ldr_cifarn import ldr_cifarn
from lnl_jax import comparison, data
from lnl_jax.comparison import images as images_compared
from lnl_jax.comparison import noisy_images
from lnl_jax.comparison.catalogue import IMAGE_SETS, LOSSES, MODELS, is_generated
from lnl_jax.comparison.image_networks import (
    SCORED_AT_ONCE,
    convolutional,
    image_runs,
    unaugmented,
)
from lnl_jax.comparison.methods import METRICS
from lnl_jax.comparison.mislabelled import (
    Scored,
    add_detection,
    suspicious_images,
    temperatures_figure,
    temperatures_table,
)
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.noisy_images import (
    NoisyImages,
    class_matrix,
    image_folds,
    some_examples,
)
from lnl_jax.comparison.outcome import Outcome, curves_figure, without_unknown
from lnl_jax.comparison.runs import Method
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume
from tests.experiments import commands
from tests.experiments.snapshots import on_the_host

TRAIN, TEST, K = 120, 20, 10
model = functools.partial(MODELS["convnet"], width=4, depth=1)
TINY = {"model": model, "epochs": 2, "batch_size": 16, "learning_rates": (0.1,), "folds": 3}
TINY |= {"temperatures": (10.0,), "qs": (0.7,), "first_folds": 2}


def made_up(size, seed):
    """Images whose brightness is the label."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(size) % K).astype(np.int32)
    images = rng.integers(0, 30, (size, 8, 8, 3)) + 20 * labels[:, None, None, None]
    return {"image": images.astype(np.uint8), "label": labels, "index": np.arange(size)}


def tiny(data_dir=None, *, human=True):
    """A data set for these tests."""
    train, test = made_up(TRAIN, 0), made_up(TEST, 1)
    if human:
        train["label_worse"] = np.where(np.arange(TRAIN) % 3, train["label"], 0).astype(np.int32)
        train["label_aggre"] = train["label"]
    return data.Splits(train, test, K, tuple("abcdefghij"))


def call(experiment, **arguments):
    """The rows, and the artifacts by name."""
    outputs = list(experiment(dataset=tiny, **TINY | arguments))
    rows = [output for output in outputs if isinstance(output, dict)]
    return rows, {output.name: output.value for output in outputs if isinstance(output, Artifact)}


@pytest.fixture(scope="module")
def one_loss():
    return call(ldr_cifar, loss=LOSSES["aldr_kl"])


@pytest.mark.slow
def test_every_epoch_has_a_finite_row_per_method(one_loss):
    rows, artifacts = one_loss
    assert [(row["epoch"], row["method"]) for row in rows] == [
        (epoch, method) for epoch in (1, 2) for method in ("cross_entropy", "aldr_kl")
    ]
    for row in rows:
        assert np.isfinite([row[name] for name in METRICS]).all()
    assert artifacts["history"]["aldr_kl"].shape == (len(METRICS), 2, 2, 1)
    (line,) = artifacts["protocol"]
    assert (line["training examples"], line["folds"], line["epochs"]) == (80, 2, "2")
    assert line["model"] == "convnet (width 4, depth 1)"
    assert {"curves", "suspicious", "temperature_histogram"} <= set(artifacts)


@pytest.mark.parametrize("is_known", [True, False])
def test_the_grid_shows_the_least_believed_labels_first_as_given_and_predicted(is_known):
    splits = tiny()
    rng = np.random.default_rng(0)
    suspicion, predicted = rng.permutation(TRAIN).astype(float), rng.integers(0, K, TRAIN)
    given = splits.train["label_worse"]
    # Where the given labels are the only ones, nothing says that they are right.
    part = {"label": given, "clean_label": splits.train["label"] if is_known else given}
    scored = Scored(np.arange(TRAIN), suspicion, predicted, None)
    figure = suspicious_images(scored, part, splits, "a loss")
    panels = figure.axes
    assert ("false" in figure.get_suptitle()) == is_known
    for panel, row in zip(panels, np.argsort(-suspicion), strict=False):
        names = [splits.class_names[label[row]] for label in (given, predicted)]
        assert panel.get_title() == f"given {names[0]}\npredicted {names[1]}"
        is_false = is_known and given[row] != splits.train["label"][row]
        assert panel.title.get_color() == ("tab:green" if is_false else "black")
        np.testing.assert_array_equal(panel.images[0].get_array(), splits.train["image"][row])
    assert len(panels) == 32


@pytest.mark.parametrize("channels", [1, 5])
def test_of_images_that_are_no_colours_the_first_channel_is_shown(channels):
    images = np.random.default_rng(0).integers(0, 255, (4, 6, 6, channels), np.uint8)
    splits = data.Splits({"image": images}, {}, 2)
    part = {"label": np.zeros(4, int), "clean_label": np.zeros(4, int)}
    scored = Scored(np.arange(4), np.arange(4.0), np.ones(4, int), None)
    first, *_ = suspicious_images(scored, part, splits, "a loss").axes
    np.testing.assert_array_equal(first.images[0].get_array(), images[3, ..., 0])


def test_what_given_labels_cannot_tell_is_left_out():
    nothing = [np.zeros(4, bool)]
    of = {"aldr_kl": [Scored(np.arange(4), np.ones(4), np.zeros(4, int), np.arange(4.0))]}
    (line,) = temperatures_table(of, nothing)
    assert (line["examples"], line["mean temperature"]) == ("all", 1.5)
    labels = temperatures_figure(of, nothing).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in labels] == ["all"]
    rows = [{"method": "aldr_kl", "accuracy %": 50.0, "memorized %": np.nan, "chosen": ""}]
    assert add_detection(without_unknown(rows), of, nothing) == [
        {"method": "aldr_kl", "accuracy %": 50.0, "chosen": ""}
    ]
    some = [np.array([True, False, False, False])]
    assert [line["examples"] for line in temperatures_table(of, some)] == ["clean", "mislabelled"]
    assert "AUROC %" in add_detection(rows, of, some)[0]
    history = [np.full((2, 3, 2, 1), np.nan)]
    history[0][0] = 0.5
    methods = [Method("aldr_kl", None, [{}])]
    outcome = Outcome(methods, [None], history, ("accuracy", "memorized"), lambda values: 0)
    figure = curves_figure(outcome, "a title")
    assert [panel.get_title() for panel in figure.axes] == ["test accuracy"]


@pytest.mark.slow
def test_adapted_temperatures_lie_between_their_bounds(one_loss):
    _, artifacts = one_loss
    for line in artifacts["temperatures"]:
        # Between temperature * (1 - 1 / alpha) and the temperature itself.
        assert 5 <= line["5%"] <= line["mean temperature"] <= line["95%"] <= 10
    assert [line["examples"] for line in artifacts["temperatures"]] == ["clean", "mislabelled"]
    assert all(0 < line["AUROC %"] < 100 for line in artifacts["results"])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [20, 2])
def test_a_resumed_run_ends_as_an_uninterrupted_one(one_loss, steps, monkeypatch):
    monkeypatch.setattr(comparison.runs, "RUN_STEPS_AT_ONCE", 1)
    monkeypatch.setattr(comparison.runs, "LEAST_STEPS_AT_ONCE", steps)
    rows, state, passed = [], None, 0
    for output in ldr_cifar(dataset=tiny, **TINY, loss=LOSSES["aldr_kl"]):
        if isinstance(output, Checkpoint):
            state, passed = on_the_host(output.state), passed + 1
            # Five steps an epoch: after the first one, or two steps into it.
            if passed == (1 if steps == 20 else 2):
                break
        rows += [output] if isinstance(output, dict) else []
    assert int(state[-1].steps) == (0 if steps == 20 else 2)
    resumed = Resume(rows, lambda fresh: state)
    later, artifacts = call(ldr_cifar, loss=LOSSES["aldr_kl"], resume=resumed)
    assert rows + later == one_loss[0]
    assert artifacts["results"] == one_loss[1]["results"]


@pytest.mark.slow
def test_streamed_images_give_the_same_numbers(one_loss):
    rows, artifacts = call(ldr_cifar, loss=LOSSES["aldr_kl"], streamed=True)
    found = [*rows, *artifacts["results"]]
    for row, expected in zip(found, [*one_loss[0], *one_loss[1]["results"]], strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            number = isinstance(value, float)
            assert row[name] == (pytest.approx(value, rel=1e-5) if number else value)


def test_a_streamed_step_is_given_its_images_and_keeps_none_on_the_device(monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 3), np.uint8)
    index = np.arange(30)[::3]
    handed = {}

    def in_turn(trainer, settings, data_sets, *, batches, measured, **devices):
        handed.update(data_sets=data_sets, batches=batches, measured=measured)

    monkeypatch.setattr(images_compared.train, "in_turn", in_turn)
    data_set = {"train": {"index": index, "label": index % 3}, "params": {"w": np.zeros(2)}}
    data_set |= {"known": {"image": images, "mean": 0.5}, "test": {"image": images}}
    image_runs(None, {"learning_rate": np.array([0.1])}, [data_set], streamed=True)
    (on_device,) = handed["data_sets"]
    assert set(on_device["known"]) == {"mean"}
    assert all(leaf.ndim < 4 for leaf in map(np.asarray, jax.tree.leaves(on_device)))
    assert handed["measured"][0]["test"]["image"] is images
    rows = data.epoch_plan(10, 4, np.random.default_rng(1))
    found = list(handed["batches"](0, rows))
    assert [batch["image"].shape for batch in found] == [(4, 8, 8, 3)] * 3
    for batch, positions in zip(found, rows["position"], strict=True):
        np.testing.assert_array_equal(batch["image"], images[index[positions]])
        np.testing.assert_array_equal(batch["index"], index[positions])


def test_images_larger_than_half_of_the_free_memory_are_streamed(monkeypatch):
    class Reached(Exception):
        pass

    def reached(*arguments, streamed, **devices):
        raise Reached(streamed)

    monkeypatch.setattr(images_compared, "image_runs", reached)
    for fits in (True, False):
        monkeypatch.setattr(data, "fits_on_device", lambda images, fits=fits: fits)
        with pytest.raises(Reached, match=str(not fits)):
            call(ldr_cifar, loss=LOSSES["cross_entropy"])


@pytest.mark.slow
def test_human_labels_are_trained_on(one_loss):
    _, artifacts = call(ldr_cifarn, loss=LOSSES["cross_entropy"])
    title = artifacts["curves"].get_suptitle()
    assert "human labels 'worse'" in title
    expected = np.mean(tiny().train["label_worse"] != tiny().train["label"])
    assert f"{expected:.0%} of them false" in title
    _, clean = call(ldr_cifarn, loss=LOSSES["cross_entropy"], labels="aggre")
    assert "memorized %" not in clean["results"][0]


def test_folds_hold_out_validation_and_share_the_images():
    splits = tiny()
    noisy = np.roll(splits.train["label"], 1)
    folds, shared = image_folds(NoisyImages(splits, noisy, np.eye(K)), 3, 3, 0)
    held = np.concatenate([fold["validation"]["index"] for fold in folds])
    assert sorted(held) == list(range(TRAIN))
    for fold in folds:
        index = fold["train"]["index"]
        assert not set(index) & set(fold["validation"]["index"])
        np.testing.assert_array_equal(fold["train"]["label"], noisy[index])
        np.testing.assert_array_equal(fold["train"]["clean_label"], splits.train["label"][index])
    assert shared["known"]["image"] is splits.train["image"]
    np.testing.assert_array_equal(shared["test"]["label"], splits.test["label"])


def test_folds_of_images_sorted_by_class_validate_on_every_class(monkeypatch):
    monkeypatch.setattr(noisy_images, "PROBED", 40)
    splits = sorted_by_class()
    labelled = NoisyImages(splits, splits.train["label"], np.eye(K))
    folds, _ = image_folds(labelled, 3, 3, 0)
    for fold in folds:
        assert np.bincount(fold["validation"]["label"]).tolist() == [4] * K
        assert np.bincount(fold["train"]["label"]).tolist() == [8] * K
        probe = fold["probe"]["label"]
        assert len(probe) == 40
        assert len(np.unique(probe)) == K
    others, _ = image_folds(labelled, 3, 3, 1)
    assert (others[0]["validation"]["index"] != folds[0]["validation"]["index"]).any()


def test_scores_in_chunks_are_those_of_all_images_at_once():
    module = model(K)
    images = np.random.default_rng(0).integers(0, 255, (SCORED_AT_ONCE + 7, 8, 8, 3), np.uint8)
    variables = initial_variables(module, np.zeros((1, 8, 8, 3), np.float32), [0], impl="rbg")
    variables = jax.tree.map(lambda array: array[0], variables)
    params, stats = variables["params"], variables.get("batch_stats", {})
    network = convolutional(module, K, stats, unaugmented, padded=False)
    known = {"image": jnp.asarray(images), "mean": jnp.full(3, 0.5), "std": jnp.full(3, 0.2)}
    found = network.scores(params, stats, known, {"index": jnp.arange(len(images))[::-1]})
    pixels = (images[::-1] / np.float32(255) - 0.5) / 0.2
    expected = module.apply({"params": params, "batch_stats": stats}, pixels.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    on_images = network.scores(params, stats, known, {"image": jnp.asarray(images)})
    np.testing.assert_allclose(on_images, found[::-1], rtol=1e-5, atol=1e-5)
    streamed = network.scores(params, stats, known | {"image": images}, {"index": jnp.arange(507)})
    np.testing.assert_allclose(streamed, on_images, rtol=1e-6, atol=1e-6)


def test_what_a_correction_is_told_is_the_mean_over_each_class():
    labels = np.array([0, 0, 2])
    rows = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 1]])
    expected = np.array([[0.75, 0.25, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(class_matrix(rows, labels, 4), expected)
    np.testing.assert_array_equal(class_matrix(expected, labels, 4), expected)


@pytest.mark.parametrize("name", NOISES)
def test_every_noise_is_a_distribution_over_the_classes(name):
    splits = tiny()
    matrix = NOISES[name](splits, 0.3, np.random.default_rng(0))
    assert matrix.shape in ((K, K), (TRAIN, K))
    np.testing.assert_allclose(matrix.sum(1), 1)
    changed = 1 - np.mean(matrix[np.arange(len(matrix)), _own(matrix, splits)])
    assert changed == 0 if name == "none" else 0.05 < changed < 0.5


def _own(matrix, splits):
    return np.arange(K) if len(matrix) == K else splits.train["label"]


@pytest.mark.parametrize(
    ("experiment", "arguments", "text"),
    [
        (ldr_cifar, {"noise_rate": 2.0}, "noise_rate must be from 0 to 1, got 2"),
        (ldr_cifar, {"first_folds": 4}, "first_folds must be from 1 to folds = 3, got 4"),
        (
            ldr_cifar,
            {"folds": 1, "first_folds": None},
            "folds must be from 2 to 20, got 1",
        ),
        (ldr_cifar, {"train_size": 121}, "train_size must be from 1 to 120, got 121"),
        (ldr_cifarn, {"labels": "best"}, "labels must be one of worse, aggre, got best"),
        (
            ldr_cifarn,
            {"dataset": functools.partial(tiny, human=False)},
            "no human labels: add the columns y_train_worse",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_raises_with_its_name_before_any_row(experiment, arguments, text):
    with pytest.raises(ValueError, match=text):
        next(experiment(**{"dataset": tiny} | TINY | arguments))


def test_asymmetric_noise_is_of_ten_classes_only():
    with pytest.raises(ValueError, match="asymmetric is about the 10 classes"):
        NOISES["asymmetric"](tiny()._replace(num_classes=100), 0.4, None)


def sorted_by_class():
    """The training images of `tiny` class by class, as files often have them."""
    splits = tiny()
    order = np.argsort(splits.train["label"], kind="stable")
    train = {name: values[order] for name, values in splits.train.items()}
    return splits._replace(train=train | {"index": np.arange(TRAIN)})


def test_fewer_training_examples_have_all_classes_and_rows_of_their_own():
    whole = sorted_by_class()
    splits = some_examples(whole, 20, 0)
    assert np.bincount(splits.train["label"]).tolist() == [2] * K
    assert splits.train["index"].tolist() == list(range(20))
    assert len(splits.test["label"]) == TEST
    brightness = splits.train["image"].mean((1, 2, 3))
    assert (np.abs(brightness - 20 * splits.train["label"] - 15) < 5).all()
    other = some_examples(whole, 20, 1)
    assert (other.train["image"] != splits.train["image"]).any()
    with pytest.raises(ValueError, match="label: class .* of 10 has no example among 5 of 120"):
        some_examples(whole, 5, 0)


def test_an_npz_of_fewer_classes_than_its_network_says_how_many(tmp_path):
    train, test = made_up(TRAIN, 0), made_up(TEST, 1)
    arrays = {"x_train": train["image"], "y_train": train["label"] % 3}
    np.savez(tmp_path / "few.npz", **arrays, x_test=test["image"], y_test=test["label"])
    with pytest.raises(ValueError, match="give num_classes if it is larger"):
        IMAGE_SETS["npz"](tmp_path, name="few")
    assert IMAGE_SETS["npz"](tmp_path, name="few", num_classes=K).num_classes == K


def test_one_set_of_images_is_generated():
    assert [name for name, function in IMAGE_SETS.items() if is_generated(function)] == ["shapes32"]


@pytest.mark.slow
def test_a_run_on_generated_images_says_so(tmp_path, capsys, monkeypatch):
    words = "--exp ldr_cifar --dataset shapes32 --dataset.num_train 200 --dataset.num_test 20 "
    words += "--model convnet --model.width 4 --model.depth 1 --loss cross_entropy --epochs 1 "
    words += f"--results_dir {tmp_path}"
    assert commands.main(words.split()) == 0
    assert "generated data, not real: --dataset shapes32" in capsys.readouterr().out
    (config,) = tmp_path.glob("**/config.json")
    assert json.loads(config.read_text())["generated_data"] is True
    (table,) = tmp_path.glob("**/protocol.csv")
    assert "shapes32 (num_train 200, num_test 20), generated" in table.read_text()
