import numpy as np
import pytest

from experiments.contrastive._shared import AdamW, LearntTemperatures, Reading
from experiments.contrastive.isogclr_cc3m import isogclr_cc3m
from lnl_jax import comparison, models
from lnl_jax.comparison.captions import Text, vit
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume
from tests.data.test_image_text import png, write_shard
from tests.experiments.snapshots import on_the_host

COLORS = {"red": (250, 20, 20), "green": (20, 250, 20), "blue": (20, 20, 250), "grey": (99,) * 3}
TINY = {
    "image_tower": lambda dim, size: vit(dim, size, width=16, depth=1, heads=1),
    "image_size": 8,
    "embed_dim": 8,
    "text": Text(width=16, depth=1, context_length=8),
    "test_pairs": 4,
    "batch_size": 16,
    "adamw": AdamW(1e-2),
    "temperature": 0.1,
    "temperatures": LearntTemperatures(1.0, 0.03, 0.9, (0.005, 1.0), 5.0),
    "reading": Reading(2),
}


@pytest.fixture
def folder(tmp_path):
    """Two shards of plain pictures that say their colour and brightness."""
    for shard in range(2):
        members = {}
        for number in range(20):
            name, color = list(COLORS.items())[number % 4]
            light = 1 - (number // 4) / 10
            color = tuple(int(part * light) for part in color)
            members[f"{number}.png"] = png(color)
            members[f"{number}.txt"] = f"a {name} picture, light {number // 4}".encode()
        write_shard(tmp_path / f"{shard:05}.tar", members)
    return tmp_path


def call(folder, **arguments):
    """The rows, the checkpoints and the artifacts by name."""
    rows, states, artifacts = [], [], {}
    for output in isogclr_cc3m(**TINY | arguments, data_dir=str(folder)):
        if isinstance(output, dict):
            rows.append(output)
        elif isinstance(output, Checkpoint):
            states.append(on_the_host(output.state))
        else:
            assert isinstance(output, Artifact)
            artifacts[output.name] = output.value
    return rows, states, artifacts


def test_words_are_known_by_frequency_and_the_end_has_the_greatest_id():
    texts = ["The dog, the cat.", "the dog"]
    tokenize, size = models.word_tokenizer(texts, context_length=5, max_words=2)
    assert size == 5
    assert tokenize(texts).tolist() == [[2, 3, 1, 2, 4], [2, 3, 4, 0, 0]]
    assert tokenize(["a bird"]).tolist() == [[1, 1, 4, 0, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_dir": None}, "give --data_dir DIR"),
        ({"test_pairs": 39}, "test_pairs must be from 1 to 38, as the folder has 40 pairs"),
        ({"epochs": 0}, "epochs must be from 1"),
        ({"temperature": 2.0}, "starts must be from 0.005 to 1.0"),
    ],
)
def test_settings_out_of_range_are_named(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        next(isogclr_cc3m(**{"data_dir": str(folder)} | TINY | arguments))


def test_what_is_left_out_of_the_folder_is_a_table_before_any_training(folder):
    whole = png((1, 2, 3))
    members = {"0.png": whole[: len(whole) // 2], "0.txt": b"cut off", "1.png": whole}
    write_shard(folder / "9.tar", members)
    with pytest.raises(ValueError, match=r"9.tar, 1.png: no caption"):
        next(isogclr_cc3m(**TINY, data_dir=str(folder)))
    table = next(isogclr_cc3m(**TINY | {"reading": Reading(2, True)}, data_dir=str(folder)))
    assert table.name == "skipped"
    lines = [row["skipped"].rpartition("9.tar, ")[2] for row in table.value]
    assert [line[:5] for line in lines] == ["1.png", "0.png"]
    write_shard(folder / "9.tar", {"0.png": whole[:20], "0.txt": b"cut off"})
    with pytest.raises(ValueError, match=r"9.tar, 0.png cannot be decoded .*Of 41 images 1 cannot"):
        next(isogclr_cc3m(**TINY, data_dir=str(folder)))


@pytest.mark.slow
def test_a_folder_is_trained_on_and_a_run_goes_on_where_it_stopped(folder, monkeypatch):
    # Three batches an epoch, and as many pieces.
    monkeypatch.setattr(comparison.runs, "RUN_STEPS_AT_ONCE", 1)
    monkeypatch.setattr(comparison.runs, "LEAST_STEPS_AT_ONCE", 1)
    rows, states, artifacts = call(folder, epochs=8)
    assert [int(so_far.steps) for _, so_far in states] == [1, 2, 0] * 8
    assert [row["method"] for row in rows[:3]] == ["clip", "sogclr", "isogclr"]
    assert rows[-1]["examples"] == 8 * 3 * 36
    of_clip = [row["loss"] for row in rows if row["method"] == "clip"]
    assert of_clip[-1] < 0.8 * of_clip[0]
    assert len(artifacts["results"]) == 3
    assert {"temperature_histogram", "neighbours"} <= set(artifacts)
    assert artifacts["history"]["captions"].shape == (36,)
    assert all("picture" in line["caption"] for line in artifacts["captions"])
    # In the midst of the sixth epoch.
    resume = Resume(rows[:15], lambda like: states[16])
    rest, _, again = call(folder, epochs=8, resume=resume)
    assert [row["epoch"] for row in rest] == [6] * 3 + [7] * 3 + [8] * 3
    assert rest == rows[15:]
    np.testing.assert_array_equal(again["history"]["images"], artifacts["history"]["images"])
