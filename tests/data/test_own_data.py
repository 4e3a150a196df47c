"""Tables of text, folders of images and prepared sets that a user labelled."""

import csv

import numpy as np
import pytest
from PIL import Image

from lnl_jax.data import csv_table, hold_out_test, labelled_folder, prepared_set

TABLE = "wings,legs,name,kind\n0,4,Rex,dog\n2,2,Tweety,bird\n0,4,Tom,cat\n2,2,Duffy,bird\n"


@pytest.fixture
def write(tmp_path):
    def written(text, name="labels.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


def test_columns_are_features_and_names_are_classes(write):
    found = csv_table(write(TABLE), label="kind", ignore=["name"])
    assert found.class_names == ("bird", "cat", "dog")
    assert found.columns["label"].tolist() == [2, 0, 1, 0]
    assert found.columns["x"].tolist() == [[0, 4], [2, 2], [0, 4], [2, 2]]
    assert found.columns["x"].dtype == np.float32
    assert found.columns["index"].tolist() == found.row.tolist() == [0, 1, 2, 3]


def test_whole_numbers_are_sorted_by_size_and_separators_are_found(write):
    found = csv_table(write("\ufeffx;label\n1;10\n2;9\n\n3.5;10\n"))
    assert found.class_names == ("9", "10")
    assert found.columns["label"].tolist() == [1, 0, 1]
    assert found.columns["x"].ravel().tolist() == [1, 2, 3.5]


def test_numbers_that_are_written_in_two_ways_are_in_the_order_of_their_names(write):
    assert csv_table(write("x,label\n1,1\n2,01\n3,001\n4,0\n")).class_names == (
        "0",
        "001",
        "01",
        "1",
    )


def test_true_classes_are_of_the_same_names(write):
    found = csv_table(write("x,label,truth\n1,a,a\n2,a,b\n"), clean_label="truth")
    assert (found.columns["label"].tolist(), found.columns["clean_label"].tolist()) == (
        [0, 0],
        [0, 1],
    )


def test_a_part_is_held_out_with_labels_that_are_given(write):
    rows = "".join(f"{number},{number % 2}\n" for number in range(20))
    splits = hold_out_test(csv_table(write("x,label\n" + rows)), 0.25)
    assert (len(splits.train["label"]), len(splits.test["label"])) == (15, 5)
    assert sorted([*splits.train["x"][:, 0], *splits.test["x"][:, 0]]) == list(range(20))
    assert splits.train["index"].tolist() == list(range(15))
    assert splits.given


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("", {}, r"has no rows: a line of column names"),
        ("x,label\n", {}, r"has no rows"),
        (
            TABLE,
            {"label": "kinds"},
            r"label: .* has no column 'kinds'; did you mean kind or",
        ),
        (TABLE, {"label": "zzz"}, r"no column 'zzz'; it has wings, legs, name, kind"),
        (TABLE, {"label": "kind", "ignore": ["nam"]}, r"ignore: .*did you mean name"),
        (TABLE, {"label": "kind"}, r"row 0 \(line 2\), column name holds 'Rex', no number"),
        ("x,label\n1,a\n2,a,3\n", {}, r"row 1 \(line 3\) has 3 fields, not the 2"),
        ("x,label\n1,a\nnan,b\n", {}, r"row 1 \(line 3\), column x holds 'nan', no finite number"),
        ("x,label\n1,a\n1e99,b\n", {}, r"row 1 \(line 3\), column x holds '1e99', no finite"),
        ("x,label\n1,a\n,b\n", {}, r"row 1 \(line 3\), column x holds '', no number"),
        ("x,label\n1,a\n2,\n", {}, r"column label is empty in 1 of 2 rows, the first is row 1"),
        (
            "x,label\n1,a\n2,nan\n3,\n",
            {},
            r"column label is nan in 2 of 3 rows, .* row 1",
        ),
        (
            ",x,label\n0,1,a\n1,2,b\n",
            {},
            r"column 1 has no name; .* to_csv\(\.\.\., index=False",
        ),
        (
            "x,label,right\n1,a,0.5\n2,b,2\n",
            {"clean_label": "right"},
            r"clean_label: .*: no class of it is one of column label, got 0\.5 and a in row 0",
        ),
        ("x,x,label\n1,2,a\n", {}, r"several columns named 'x'"),
        ("label\na\nb\n", {}, r"no columns of features beside label"),
        ("x,label\n1,a\n2,a\n", {}, r"at least 2 classes, got a alone"),
        ("x,label\n1,a\n2,b\n", {"size": 0}, r"size must be an integer from 1 on"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(write, text, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        csv_table(write(text), **changes)
    assert "\n" not in str(caught.value)


def test_no_file_and_bytes_that_are_no_text_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        csv_table(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_bytes(b"x,label\n\xff,1\n")
    with pytest.raises(ValueError, match="must be text in UTF-8"):
        csv_table(tmp_path / "labels.csv")


@pytest.fixture
def images(tmp_path):
    """Three images, the gray level of which is their number, and a table of them."""
    for number in range(3):
        place = tmp_path / "animals" / ("cat" if number else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), (number,) * 3).save(place / f"{number}.png")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([["animals/dog/0.png", "b"], ["animals/cat/1.png", "a"]])
        writer.writerow(["animals/cat/2.png", "b"])
    return tmp_path


def test_images_are_read_from_the_folder_of_the_table(images):
    found = csv_table(images / "labels.csv", image="path", size=8)
    assert found.columns["image"].shape == (3, 8, 8, 3)
    assert found.columns["image"][:, 0, 0, 0].tolist() == [0, 1, 2]
    assert found.files[2].endswith("animals/cat/2.png")


def test_a_missing_image_is_named_or_left_out_and_listed(images):
    (images / "animals/cat/1.png").unlink()
    (images / "animals/cat/2.png").write_bytes(b"no image")
    table = images / "labels.csv"
    message = r"row 1 \(line 3\): .*cat/1.png cannot be read.*Of 3 images 2 .*skip_unreadable"
    with pytest.raises(ValueError, match=message):
        csv_table(table, image="path")
    table.write_text(table.read_text() + "animals/dog/0.png,a\n")
    found = csv_table(table, image="path", skip_unreadable=True)
    assert found.row.tolist() == [0, 3]
    assert found.columns["label"].tolist() == [1, 0]
    assert len(found.skipped) == 2
    assert "row 2 (line 4)" in found.skipped[1]


def test_a_folder_of_classes_is_a_data_set(images):
    found = labelled_folder(images / "animals", size=4)
    assert found.class_names == ("cat", "dog")
    assert found.columns["label"].tolist() == [0, 0, 1]
    assert found.columns["image"][:, 0, 0, 0].tolist() == [1, 2, 0]
    (images / "animals/cat/1.png").write_bytes(b"no image")
    found = labelled_folder(images / "animals", skip_unreadable=True)
    assert [file[-5:] for file in found.files] == ["2.png", "0.png"]
    assert "1.png" in found.skipped[0]
    with pytest.raises(ValueError, match=r"1.png.*Of 3 images 1 cannot be read"):
        labelled_folder(images / "animals")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A set of features and ids, shuffled as TensorFlow Datasets does."""
    import tensorflow_datasets as tfds

    class Flowers(tfds.core.GeneratorBasedBuilder):
        """Made here."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "petals": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                "age": tfds.features.Scalar(dtype=np.int64),
                "label": tfds.features.ClassLabel(names=["rose", "tulip"]),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": examples(6), "test": examples(2)}

        def _generate_examples(self):
            raise NotImplementedError

    def examples(count):
        for number in range(count):
            row = {"id": f"{number:03}", "petals": [number, 0.5], "age": 3, "label": number % 2}
            yield number, row

    place = tmp_path_factory.mktemp("prepared")
    Flowers(data_dir=place, file_format="array_record").download_and_prepare()
    return place


def test_a_prepared_set_of_features_comes_in_the_order_of_its_ids(prepared):
    found = prepared_set("flowers", prepared, inputs="petals")
    assert found.train["x"].tolist() == [[number, 0.5] for number in range(6)]
    assert found.train["label"].tolist() == [0, 1] * 3
    assert found.class_names == ("rose", "tulip")
    assert found.given


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "flower"}, r"no set 'flower' is prepared in"),
        ({}, r"inputs must be named, one of the keys of numbers: .*petals"),
        ({"inputs": "petal"}, r"no key 'petal'; name the inputs and the label: .*petals"),
        ({"inputs": "petals", "test": "tests"}, r"no split 'tests', it has"),
    ],
)
def test_what_a_prepared_set_lacks_is_named(prepared, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepared_set(**{"name": "flowers", "data_dir": prepared} | changes)
