"""Projectors against stored labels: what is written, counted and resumed, in a tiny run."""

import io

import jax
import numpy as np
import pytest

from experiments import label_storage
from experiments.augmented_views import draw_views
from experiments.descent import accuracy, in_chunks
from experiments.distillation_parts import enlarged_digits
from experiments.distilled_images import stored_images
from experiments.hello_digits import hello_digits
from experiments.hello_rows import ROWS
from experiments.low_rank_projectors import (
    Projector,
    Setting,
    adapter_file,
    initial_projector,
    projector_predict,
    read_adapter,
    to_float16,
)
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.shifted_foundation import initial_foundation, shifted_batches
from experiments.soft_label_students import HARD, Objective, student_loss
from lnl_jax import distill
from tests.experiments.snapshots import on_the_host

TINY = {"foundation_steps": 3, "teacher_steps": 9, "projector_steps": 2, "student_epochs": 4}
TINY |= {"students": 1, "per_class": (1, 2), "rows": tuple(ROWS)}


def call(**arguments):
    """The rows, the checkpoints and the artifacts by name."""
    rows, states, artifacts = [], [], {}
    for output in hello_digits(**arguments):
        if isinstance(output, dict):
            rows.append(output)
        elif isinstance(output, Checkpoint):
            states.append(on_the_host(output.state))
        else:
            assert isinstance(output, Artifact)
            artifacts[output.name] = output.value
    return rows, states, artifacts


@pytest.fixture(scope="module")
def whole():
    return call(**TINY)


@pytest.mark.slow
def test_the_ledger_counts_the_files(whole):
    _, _, outputs = whole
    sizes = {name: len(value) for name, value in outputs.items() if isinstance(value, bytes)}
    for count in TINY["per_class"]:
        lines = {row["what"]: row for row in outputs["storage"] if row["per class"] == count}
        images, adapter = lines["images and classes, file"], lines["adapter, file"]
        assert images["bytes"] == sizes[f"images_{count}.npz"]
        assert adapter["bytes"] == sizes["adapter.npy"]
        total = lines["total of what counts"]["bytes"]
        assert total == sizes[f"images_{count}.npz"] + sizes["adapter.npy"]
        assert lines["public tower"]["counted"] == "no"
        for form in label_storage.FORMS:
            line = lines[f"instead: teacher {form} labels, file"]
            assert line["bytes"] == sizes[f"labels_{count}_{form}.npz"]
            assert line["counted"] == "no"
    with np.load(io.BytesIO(outputs["labels_2_float16.npz"]), allow_pickle=False) as file:
        assert file["logits"].nbytes == distill.ledger.label_bytes(20, TINY["student_epochs"], 10)
    vector = np.load(io.BytesIO(outputs["adapter.npy"]), allow_pickle=False)
    listed = {row["projector"]: row for row in outputs["projectors"]}
    assert listed["LoRA, text, low-rank head"]["parameters"] == vector.size
    assert listed["LoRA, text, low-rank head"]["bytes as float16"] == vector.nbytes


@pytest.mark.slow
def test_every_row_is_run_at_every_size(whole):
    rows, _, outputs = whole
    found = [(row["row"], row["per class"]) for row in outputs["results"]]
    assert sorted(found) == sorted((row, count) for row in ROWS for count in TINY["per_class"])
    assert all(0 <= row["label-robust score"] <= 1 for row in outputs["robust_scores"])
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 9])
def test_an_interrupted_run_ends_alike(whole, stage):
    rows, states, outputs = whole

    def restore(like):
        alike = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, like, saved)
        assert all(jax.tree.leaves(alike))
        return saved

    saved = states[stage]
    more, _, again = call(**TINY, resume=Resume(rows[: stage + 1], restore))
    assert more == rows[stage + 1 :]
    for name in ("results", "storage", "projectors", "robust_scores"):
        assert again[name] == outputs[name]


def test_parts_share_no_image_and_have_the_sizes_that_are_said():
    parts = enlarged_digits(0)
    assert [len(part["image"]) for part in parts[:3]] == [1097, 200, 500]
    whole = np.concatenate([part["image"].reshape(-1, 256) for part in parts[:3]])
    assert len(np.unique(whole, axis=0)) == 1797
    for part in parts[:3]:
        share = np.bincount(part["label"]) / len(part["label"])
        np.testing.assert_allclose(share, 0.1, atol=0.01)


def test_the_strange_domain_is_inverted_noisy_and_wrongly_captioned():
    part = {"image": np.full((2000, 16, 16, 1), 0.2, np.float32), "label": np.arange(2000) % 10}
    batches = shifted_batches(part, seed=0, steps=20, num_classes=10)
    means = batches["images"].mean((2, 3, 4))
    inverted = means > 0.5
    np.testing.assert_allclose(inverted.mean(), 0.5, atol=0.05)
    np.testing.assert_allclose(means, np.where(inverted, 0.8, 0.2), atol=0.08)
    np.testing.assert_allclose(batches["images"].std((2, 3, 4)).mean(), 0.25, atol=0.01)


def test_a_part_of_the_captions_is_wrong_for_ever():
    size = 500
    part = {"image": np.zeros((size, 1, 1, 1), np.float32), "label": np.arange(size) % 10}
    part["image"][:, 0, 0, 0] = 1000 * np.arange(size)  # noise and inversion leave it readable
    batches = shifted_batches(part, seed=3, steps=100, num_classes=10)
    pixels = batches["images"][..., 0, 0, 0]
    rows = np.round(np.abs(pixels) / 1000).astype(int)
    captions = batches["captions"]
    wrong = captions != part["label"][rows]
    np.testing.assert_allclose(wrong.mean(), 0.3, atol=0.06)
    for row in range(20):
        assert len(np.unique(captions[rows == row])) == 1


@pytest.mark.slow
def test_an_adapter_comes_back_from_its_file():
    rng, setting = np.random.default_rng(0), Setting(2, 3)
    foundation = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: initial_foundation(0, (16, 16, 1), 10)),
    )
    start = initial_projector(foundation, setting, 0)
    trained = jax.tree.map(
        lambda leaf: leaf + rng.normal(size=leaf.shape).astype(np.float32) / 10, start.adapter
    )
    stored = to_float16(Projector(trained, start.words))
    content = adapter_file(stored)
    again = read_adapter(content, foundation, setting, 0)
    images = rng.random((3, 16, 16, 1), np.float32)
    expected = projector_predict(foundation, stored)(images)
    np.testing.assert_array_equal(projector_predict(foundation, again)(images), expected)
    assert not np.allclose(projector_predict(foundation, to_float16(start))(images), expected)


def test_chunks_change_nothing():
    images = np.arange(1203, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(in_chunks(lambda chunk: 2 * chunk, images), 2 * images)
    part = {"image": np.eye(4, dtype=np.float32), "label": np.array([0, 1, 2, 0])}
    assert accuracy(lambda images: images, part) == 75.0


class Linear:
    """A network whose scores are its parameters times the image's first pixels."""

    def apply(self, variables, images, train=False):
        return images @ variables["params"]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (HARD, lambda z, t, m: -(m * np.log(softmax(z))).sum(-1).mean()),
        (Objective(kl=1.0, temperature=4.0), lambda z, t, m: 16 * kl(t / 4, z / 4)),
        (
            Objective(mse=1.0, ce=0.1),
            lambda z, t, m: (
                ((z - t + t.mean(-1, keepdims=True)) ** 2).mean()
                - 0.1 * (m * np.log(softmax(z))).sum(-1).mean()
            ),
        ),
    ],
)
def test_objectives_are_their_formulas(objective, expected):
    rng = np.random.default_rng(0)
    batch = {"images": rng.normal(size=(6, 3)), "targets": rng.normal(size=(6, 4))}
    batch["mixed"] = softmax(rng.normal(size=(6, 4)))
    batch = {name: values.astype(np.float32) for name, values in batch.items()}
    weights = rng.normal(size=(3, 4)).astype(np.float32)
    found, _ = student_loss(Linear())(weights, {}, batch, objective)
    wanted = expected(batch["images"] @ weights, batch["targets"], batch["mixed"])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(t, z):
    p, q = softmax(t), softmax(z)
    return (p * (np.log(p) - np.log(q))).sum(-1).mean()


@pytest.mark.slow
def test_views_are_those_of_the_drawn_geometry_whatever_is_drawn_at_once():
    rng = np.random.default_rng(0)
    images, classes = rng.random((6, 4, 4, 1), np.float32), np.arange(6) % 3
    views = draw_views(images, classes, seed=5, steps=53, batch_size=3, num_classes=3)
    assert len(views.images) == len(views.mixed) == 53
    settings = {"count": 6, "batch_size": 3, "size": (4, 4), "min_area": 0.5, "flip_rate": 0.0}
    drawn = distill.labels.draw_geometry(5, 51, alpha=1.0, **settings)
    np.testing.assert_allclose(
        views.images[51], distill.labels.apply_geometry(images, drawn), atol=1e-6
    )
    np.testing.assert_allclose(
        views.mixed[51], distill.labels.mixed_labels(classes, drawn, num_classes=3), atol=1e-6
    )


def test_images_are_seen_as_they_are_stored():
    found = stored_images(np.array([[[[0.1]], [[1.2]]]]), np.array([3]))
    assert found.pixels.dtype == np.uint8
    assert found.pixels.ravel().tolist() == [26, 255]
    np.testing.assert_allclose(found.images.ravel(), [26 / 255, 1])
    with np.load(io.BytesIO(found.file()), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["image"], found.pixels)
        assert file["label"].tolist() == [3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": ("hardest",)}, "rows cannot be hardest; did you mean hard"),
        ({"rows": ("hard", "hard")}, "rows must not name anything twice"),
        ({"per_class": (0,)}, "per_class must be from 1 to"),
        ({"per_class": (1, 107)}, "per_class must be from 1 to the 106 images"),
        ({"per_class": ()}, "per_class must hold at least one number"),
        ({"learning_rates": (0.0,)}, "learning_rates must be above 0"),
        ({"student_epochs": 3}, "student_epochs must be from 4"),
        ({"teacher_steps": 8}, "teacher_steps must be from 9"),
        ({"students": 0}, "students must be from 1"),
        ({"rank": 0}, "rank must be from 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"ce_weight": -1.0}, "ce_weight must be at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        next(hello_digits(**arguments))
