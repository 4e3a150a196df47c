import gzip
import hashlib
import json

import numpy as np
import pytest
from sklearn.utils import Bunch

import lnl_jax.data
from lnl_jax.data import letter, satimage, tables, vowel
from lnl_jax.data.uci_tables import GLASSES, SEGMENTS, VEHICLES
from tests.data.serving import nobody_there

# Name, OpenML's number, columns, rows for training and testing, classes as OpenML writes them.
SOILS = ["1.", "2.", "3.", "4.", "5.", "7."]
TABLES = [
    ("letter", 6, 16, 15_000, 5_000, [chr(ord("A") + k) for k in range(26)]),
    ("pendigits", 32, 16, 7_494, 3_498, [str(k) for k in range(10)]),
    ("satimage", 182, 36, 4_435, 1_995, SOILS),
    ("optdigits", 28, 64, 3_823, 1_797, [str(k) for k in range(10)]),
    ("shuttle", 40685, 9, 43_500, 14_500, [f"{k}." for k in range(1, 8)]),
]
# Those without official parts, whose classes OpenML writes as they are called.
WHOLE = [("segment", 36, 19, 2_310, 7), ("vehicle", 54, 18, 846, 4), ("glass", 41, 9, 214, 6)]
VOWELS = ["hid", "hId", "hEd", "hAd", "hYd", "had", "hOd", "hod", "hUd", "hud", "hed"]


@pytest.fixture(autouse=True)
def _no_connection(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "scikit_learn_data"))
    monkeypatch.setattr(tables, "OPENML", nobody_there())


def openml(monkeypatch, rows, columns, codes, asked=None):
    """Stands for OpenML: values from 0 to 15 and a constant column, classes in turn."""
    values = np.add.outer(7 * np.arange(rows), np.arange(columns)) % 16.0
    values[:, -1] = 3
    target = np.array(codes, object)[np.arange(rows) % len(codes)]

    def fetch_openml(**settings):
        if asked is not None:
            asked.append(settings)
        names = [f"v{column}" for column in range(columns)]
        return Bunch(data=values, target=target, feature_names=names, categories={})

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    monkeypatch.setattr(tables, "check_connection", lambda url: None)
    return values


# Files.


def stored(folder, name, train, test):
    labels = {f"y_{part}": np.arange(2) for part in ("train", "test")}
    np.savez(folder / f"{name}.npz", x_train=train, x_test=test, **labels)


def test_columns_go_from_minus_one_to_one_over_the_training_part(tmp_path):
    train, test = np.zeros((2, 16), np.uint8), np.zeros((2, 16), np.uint8)
    train[:, 0], test[:, 0] = (0, 15), (7, 30)
    train[:, 1], test[:, 1] = (4, 2), (3, 1)
    train[:, 2], test[:, 2] = 5, (5, 9)
    stored(tmp_path, "letter", train, test)
    found = letter(tmp_path)
    assert found.train["x"][:, :3].T.tolist() == [[-1, 1], [1, -1], [0, 0]]
    np.testing.assert_allclose(found.test["x"][:, 0], [7 / 7.5 - 1, 3], rtol=1e-6)
    np.testing.assert_array_equal(found.test["x"][:, 1:3], [[0, 0], [-2, 0]])
    assert (found.train["x"].dtype, found.num_classes) == (np.float32, 26)
    assert found.class_names[:3] == ("A", "B", "C")


def test_a_file_with_other_columns_or_classes_is_refused(tmp_path):
    stored(tmp_path, "vowel", np.zeros((2, 9)), np.zeros((2, 9)))
    with pytest.raises(ValueError, match=r"vowel\.npz: x_train must have 10 columns.*\(2, 9\)"):
        vowel(tmp_path)
    stored(tmp_path, "vowel", *[np.zeros((2, 5, 2), np.uint8)] * 2)
    with pytest.raises(ValueError, match=r"must have 10 columns.*\(2, 5, 2, 1\)"):
        vowel(tmp_path)
    np.savez(
        tmp_path / "vowel.npz",
        **dict.fromkeys(("x_train", "x_test"), np.zeros((1, 10))),
        y_train=np.array([11]),
        y_test=np.array([0]),
    )
    with pytest.raises(ValueError, match=r"vowel\.npz: y_train must be from 0 to 10"):
        vowel(tmp_path)


# OpenML.


@pytest.mark.parametrize(("name", "number", "columns", "train", "test", "codes"), TABLES)
def test_openml_is_cut_at_the_official_row(
    monkeypatch, tmp_path, name, number, columns, train, test, codes
):
    asked = []
    values = openml(monkeypatch, train + test, columns, codes, asked)
    # A folder without the file is as good as none.
    found = getattr(lnl_jax.data, name)(tmp_path)
    assert asked == [{"data_id": number, "as_frame": False, "parser": "liac-arff"}]
    expected = (values / 7.5 - 1).astype(np.float32)
    expected[:, -1] = 0
    np.testing.assert_allclose(found.train["x"], expected[:train], atol=1e-6)
    np.testing.assert_allclose(found.test["x"], expected[train:], atol=1e-6)
    labels = np.arange(train + test) % len(codes)
    np.testing.assert_array_equal(found.train["label"], labels[:train])
    np.testing.assert_array_equal(found.test["label"], labels[train:])
    assert found.test["index"].tolist() == [*range(test)]
    assert found.num_classes == len(found.class_names) == len(codes)


@pytest.mark.parametrize(("name", "number", "columns", "rows", "classes"), WHOLE)
def test_a_fifth_of_each_class_is_for_testing_where_there_are_no_official_parts(
    monkeypatch, tmp_path, name, number, columns, rows, classes
):
    load = getattr(lnl_jax.data, name)
    codes = {"segment": SEGMENTS, "vehicle": VEHICLES, "glass": GLASSES}[name]
    asked = []
    openml(monkeypatch, rows, columns, codes, asked)
    found = load()
    assert asked[0]["data_id"] == number
    assert found.num_classes == classes
    assert len(found.train["x"]) + len(found.test["x"]) == rows
    counts = [np.bincount(part["label"]) for part in (found.train, found.test)]
    assert (np.abs(4 * counts[1] - counts[0]) <= 4).all()
    # A file of all rows is parted in the same way, and keeps a part that it has.
    x, y = np.zeros((rows, columns)), np.arange(rows) % classes
    np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y)
    np.testing.assert_array_equal(load(tmp_path).test["label"], found.test["label"])
    np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    assert load(tmp_path).test["label"].tolist() == y[:9].tolist()
    np.savez(tmp_path / f"{name}.npz", x_train=x)
    with pytest.raises(ValueError, match=rf"{name}\.npz: y_train is missing"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("rows", "columns", "codes", "text"),
    [
        (6_435, 36, SOILS, r"\(4435, 1995\).*36 columns, it has \(4435, 2000\) and 36"),
        (6_430, 37, SOILS, "it has .* and 37"),
        (6_430, 36, [*SOILS, "6."], "expected to have the classes 1, 2, 3, 4, 5, 7; .*has 6"),
    ],
)
def test_another_table_at_openml_is_said_to_be_another(monkeypatch, rows, columns, codes, text):
    openml(monkeypatch, rows, columns, codes)
    with pytest.raises(ValueError, match=f"satimage: OpenML data set 182 .*{text}"):
        satimage()


@pytest.mark.parametrize(("code", "plain"), [("7", "7"), ("7.", "7"), (7.0, "7"), ("a.b", "a.b")])
def test_a_class_may_be_written_as_a_number_in_several_ways(code, plain):
    assert tables._code(code) == plain


def test_without_a_connection_the_ways_out_are_named(monkeypatch, tmp_path):
    def never(**settings):
        raise AssertionError("asked OpenML without a connection")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", never)
    with pytest.raises(
        FileNotFoundError, match=r"refused.*data_dir, a folder with letter\.npz .*connect to the in"
    ):
        letter(tmp_path)
    with pytest.raises(FileNotFoundError, match="data_dir must be a folder that exists"):
        letter(tmp_path / "absent")


# The cache of scikit-learn, in the format of OpenML: the real conversion runs, without pandas.


def cache_vowel(folder, order):
    """990 rows of two speakers; which are for training alternates. `order` is of the two names."""
    nominal = {"Train_or_Test": order, "Speaker_Number": ["Andrew", "Bill"], "Sex": ["F", "M"]}
    names = [*nominal, *[f"Feature_{k}" for k in range(10)], "Class"]
    values = dict(nominal, Class=VOWELS)
    kinds = [f"{{{','.join(values[name])}}}" if name in values else "NUMERIC" for name in names]
    rows = [
        ["Train" if row % 15 < 8 else "Test", "Andrew", "M", *(row + k for k in range(10))]
        for row in range(990)
    ]
    lines = [",".join(map(str, [*row, VOWELS[number % 11]])) for number, row in enumerate(rows)]
    header = [f"@ATTRIBUTE {name} {kind}" for name, kind in zip(names, kinds, strict=True)]
    arff = "\n".join(["@RELATION vowel", *header, "@DATA", *lines]).encode()
    described = {
        "id": "307", "name": "vowel", "version": "2", "status": "active", "format": "ARFF",
        "default_target_attribute": "Class", "description": "", "file_id": "1",
        "url": "https://a.invalid/data/v1/download/1/vowel.arff",
        "md5_checksum": hashlib.md5(arff).hexdigest(),
    }  # fmt: skip
    features = [
        {
            "index": str(number), "name": name, "is_target": str(name == "Class").lower(),
            "data_type": "nominal" if name in values else "numeric",
            "is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0",
        } | ({"nominal_value": values[name]} if name in values else {})
        for number, name in enumerate(names)
    ]  # fmt: skip
    quality = [{"name": "NumberOfInstances", "value": "990"}]
    api = "api/v1/json/data"
    for path, content in {
        f"{api}/307": json.dumps({"data_set_description": described}).encode(),
        f"{api}/features/307": json.dumps({"data_features": {"feature": features}}).encode(),
        f"{api}/qualities/307": json.dumps({"data_qualities": {"quality": quality}}).encode(),
        "data/v1/download/1/vowel.arff": arff,
    }.items():
        file = folder / "openml" / "openml.org" / f"{path}.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(content))


@pytest.mark.parametrize("order", [["Train", "Test"], ["Test", "Train"]])
def test_vowels_in_the_cache_need_no_connection_and_are_split_by_their_column(tmp_path, order):
    cache_vowel(tmp_path / "scikit_learn_data", order)
    found = vowel()
    row = np.arange(990)
    for part, chosen in (("train", row % 15 < 8), ("test", row % 15 >= 8)):
        columns, rows = getattr(found, part), row[chosen]
        np.testing.assert_array_equal(columns["label"], rows % 11)
        # Column k is the row number + k, whose training rows go from 0 to 982.
        expected = np.tile(2 * rows[:, None] / 982 - 1, (1, 10))
        np.testing.assert_allclose(columns["x"], expected, atol=1e-6)
    assert (len(found.train["x"]), len(found.test["x"])) == (528, 462)
    assert found.class_names == tuple(VOWELS)
