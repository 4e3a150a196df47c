import gzip
import io
import pickle
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

import lnl_jax.data
from lnl_jax.data import archives, cifar10, cifar100, fashion_mnist, image_sets, mnist, prepared
from lnl_jax.data.downloads import RemoteFile
from tests.data.serving import nobody_there, serving

NAMES = ["cifar10", "cifar100", "fashion_mnist", "mnist"]


@pytest.fixture(autouse=True)
def _places_of_this_test_alone(monkeypatch, tmp_path):
    """Nothing of this machine is found, and nobody listens."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    away = RemoteFile(f"{nobody_there()}/away", 3, "0" * 64, "away")
    monkeypatch.setattr(archives, "files_of", lambda name: [away])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


# The archives.


def cifar_records(labels, num_labels=1):
    """Pixel (row, column) of colour c is 10 c + row, in the second half of the columns + 100."""
    image = np.add.outer(10 * np.arange(3), np.arange(32))[..., None] + np.repeat([0, 100], 16)
    labels = np.reshape(labels, (-1, num_labels)).astype(np.uint8)
    pixels = np.tile(image.astype(np.uint8).ravel(), (len(labels), 1))
    return np.concatenate([labels, pixels], 1).tobytes()


def tar_of(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, member in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(member)
            archive.addfile(info, io.BytesIO(member))
    return content.getvalue()


def idx_of(values):
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    # Its header says no time: the same files are compared by their sums.
    return gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes(), mtime=0)


GREY = np.arange(5 * 28 * 28, dtype=np.uint8).reshape(5, 28, 28)


def contents(name):
    """A made-up set in the format of the public archive."""
    if name == "cifar10":
        batches = {f"data_batch_{k}.bin": cifar_records([k, 9]) for k in (3, 1, 2, 5, 4)}
        batches |= {"test_batch.bin": cifar_records([7]), "batches.meta.txt": b"airplane"}
        members = {f"cifar-10-batches-bin/{name}": batch for name, batch in batches.items()}
        return {"cifar-10-binary.tar.gz": tar_of(members)}
    if name == "cifar100":
        members = {
            "cifar-100-binary/train.bin": cifar_records([[3, 50], [19, 99]], 2),
            "cifar-100-binary/test.bin": cifar_records([[0, 7]], 2),
        }
        return {"cifar-100-binary.tar.gz": tar_of(members)}
    return {
        "t10k-images-idx3-ubyte.gz": idx_of(GREY[3:]),
        "t10k-labels-idx1-ubyte.gz": idx_of(np.array([4, 9], np.uint8)),
        "train-images-idx3-ubyte.gz": idx_of(GREY[:3]),
        "train-labels-idx1-ubyte.gz": idx_of(np.array([1, 0, 2], np.uint8)),
    }


@pytest.fixture
def server(monkeypatch):
    with serving() as server:
        offered = {name: [server.offer(*item) for item in contents(name).items()] for name in NAMES}
        monkeypatch.setattr(archives, "files_of", offered.__getitem__)
        monkeypatch.setattr(prepared, "can_prepare", lambda: False)
        yield server


def test_cifar10_is_downloaded_once_and_kept(server, tmp_path):
    found = cifar10()
    assert found.train["label"].tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]
    assert found.test["label"].tolist() == [7]
    assert (found.num_classes, found.class_names[3]) == (10, "cat")
    row, column, colour = np.ogrid[:32, :32, :3]
    expected = 10 * colour + row + 100 * (column >= 16)
    assert (found.train["image"] == expected).all()
    assert found.test["image"].dtype == np.uint8
    # Only the .npz file stays, and nothing more is asked for.
    assert [file.name for file in (tmp_path / "cache/lnl_jax").iterdir()] == ["cifar10.npz"]
    asked = len(server.log)
    np.testing.assert_array_equal(cifar10().train["image"], found.train["image"])
    assert len(server.log) == asked


def test_cifar100_has_fine_and_coarse_labels(server, folder):
    found = cifar100(folder)
    assert found.train["label"].tolist() == [50, 99]
    assert found.train["label_coarse"].tolist() == [3, 19]
    assert (found.test["label"].tolist(), found.test["label_coarse"].tolist()) == ([7], [0])
    # Stored where the folder was given.
    assert [file.name for file in folder.iterdir()] == ["cifar100.npz"]


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_both_mnists_are_read_from_four_archives(server, load):
    found = load()
    np.testing.assert_array_equal(found.train["image"][..., 0], GREY[:3])
    np.testing.assert_array_equal(found.test["image"][..., 0], GREY[3:])
    assert (found.train["label"].tolist(), found.test["label"].tolist()) == ([1, 0, 2], [4, 9])


def test_an_interrupted_download_goes_on(server, folder):
    whole = server.files["cifar-10-binary.tar.gz"]
    server.breaks_after = len(whole) // 2
    with pytest.raises(FileNotFoundError, match="next run goes on from there"):
        cifar10(folder)
    server.breaks_after = None
    assert len(cifar10(folder).train["label"]) == 10
    assert server.log[-1][2] == f"bytes={len(whole) // 2}-"


def test_a_wrong_archive_is_deleted_and_said_to_be_wrong(server, folder):
    server.files["cifar-10-binary.tar.gz"] = b"<html>Log in to this network</html>"
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz .*deleted; run again"):
        cifar10(folder)
    assert not [*folder.iterdir()]


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_table_has_the_archives_that_are_read(monkeypatch, name):
    monkeypatch.undo()
    files = archives.files_of(name)
    assert {file.name for file in files} == {*contents(name)}
    for file in files:
        assert file.url.endswith(f"/{file.name}")
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.size > 1000


# What lies in the folder in other forms.


def unpacked(folder, name):
    """The files of an archive, as tar leaves them or without gzip."""
    for file, content in contents(name).items():
        if file.endswith(".tar.gz"):
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                archive.extractall(folder, filter="data")
        else:
            (folder / file.removesuffix(".gz")).write_bytes(gzip.decompress(content))


def packed(folder, name):
    for file, content in contents(name).items():
        (folder / file).write_bytes(content)


def equal(found, expected):
    for part in ("train", "test"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        assert ours.keys() == theirs.keys()
        for column in ours:
            np.testing.assert_array_equal(ours[column], theirs[column])


@pytest.mark.parametrize("put", [packed, unpacked])
@pytest.mark.parametrize("load", [cifar10, cifar100])
def test_the_binary_archive_is_read_where_it_lies(server, folder, tmp_path, put, load):
    put(folder, load.__name__)
    before = {file.name for file in folder.iterdir()}
    found = load(folder)
    assert not server.log
    assert {file.name for file in folder.iterdir()} == before
    equal(found, load())
    if put is unpacked:
        # Or the very folder that has the files.
        (inner,) = folder.iterdir()
        equal(load(inner), found)


@pytest.mark.parametrize("put", [packed, unpacked])
@pytest.mark.parametrize(
    ("load", "place"),
    [(mnist, "mnist"), (mnist, "MNIST/raw"), (fashion_mnist, "FashionMNIST/raw")],
)
def test_the_files_of_both_mnists_are_read_from_their_folders(server, folder, put, load, place):
    (folder / place).mkdir(parents=True)
    put(folder / place, load.__name__)
    found = load(folder)
    assert not server.log
    equal(found, load())


def test_files_that_may_be_of_either_mnist_are_not_guessed_at(server, folder):
    packed(folder, "mnist")
    with pytest.raises(
        ValueError, match=r"name their files alike: .* of fashion_mnist into .*given"
    ):
        fashion_mnist(folder)
    assert not server.log


def test_an_archive_that_is_cut_off_is_named(folder):
    path = folder / "cifar-10-binary.tar.gz"
    packed(folder, "cifar10")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"words"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cifar-10-binary.tar.gz is broken .*get it again.$"):
            cifar10(folder)
    path.unlink()
    unpacked(folder, "cifar10")
    batch = folder / "cifar-10-batches-bin/data_batch_4.bin"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"cifar-10-batches-bin is broken or not complete"):
        cifar10(folder)
    batch.unlink()
    with pytest.raises(ValueError, match=r"not complete .*data_batch_4.bin"):
        cifar10(folder)


def pickled(folder, name):
    """What the Python version of the archive has, of the same images as the binary one."""
    parts = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    labels = "labels"
    if name == "cifar100":
        parts, labels = ["train", "test"], "fine_labels"
    place = folder / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    place.mkdir()
    rng = np.random.default_rng(0)
    for number, part in enumerate(parts):
        pixels = rng.integers(0, 256, (2, 3072), np.uint8)
        batch = {"data": pixels, labels: [number, 9 - number]}
        (place / part).write_bytes(pickle.dumps(batch))
    return place, pixels.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1), [number, 9 - number]


@pytest.mark.parametrize("load", [cifar10, cifar100])
def test_pickles_are_not_read_and_the_line_that_is_told_converts_them(server, folder, load):
    place, images, labels = pickled(folder, load.__name__)
    for given in (folder, place):
        with pytest.raises(ValueError, match="as pickles, which are not read") as raised:
            load(given)
        assert str(place) in str(raised.value)
        assert not server.log
    code = str(raised.value).split("with Python: ")[1].split(" -- or")[0]
    subprocess.run([sys.executable, "-c", code], check=True)
    found = load(place)
    np.testing.assert_array_equal(found.test["image"], images)
    assert found.test["label"].tolist() == labels
    shutil.rmtree(place)
    (folder / f"cifar-{load.__name__[5:]}-python.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"python.tar.gz holds .* pickles.*Unpack it, tar -xzf"):
        load(folder)


# The order of search.


def store(place, stem, label, shape=(32, 32, 3), dtype=np.uint8):
    """A set whose labels tell where it came from."""
    place.mkdir(parents=True, exist_ok=True)
    columns = {f"x_{part}": np.zeros((2, *shape), dtype) for part in ("train", "test")}
    labels = {f"y_{part}": np.full(2, label) for part in ("train", "test")}
    np.savez(place / f"{stem}.npz", **columns, **labels)


@pytest.fixture(scope="module")
def cifar10_of_tfds(tmp_path_factory):
    """A set of ten examples that TensorFlow Datasets has prepared and shuffled."""
    import tensorflow_datasets as tfds

    def examples(first):
        for number in range(10):
            file = io.BytesIO()
            Image.fromarray(np.full((32, 32, 3), first + number, np.uint8)).save(file, "PNG")
            file.seek(0)
            columns = {"id": f"train_{number:05d}", "image": file, "label": number}
            yield f"key{number}", columns

    class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.2")
        name = "cifar10"
        pkg_dir_path = tmp_path_factory.mktemp("package")

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": examples(0), "test": examples(100)}

        def _generate_examples(self):
            raise NotImplementedError

    place = tmp_path_factory.mktemp("prepared")
    Cifar10(data_dir=place, file_format="array_record").download_and_prepare()
    return place / "cifar10"


def test_the_first_place_with_the_set_is_taken(cifar10_of_tfds, folder, tmp_path):
    cache, tfds = tmp_path / "cache/lnl_jax", tmp_path / "tfds"
    store(folder, "cifar10", 1)
    store(folder, "cifar10_10k", 2)
    store(folder, "mnist", 9, (28, 28))
    shutil.copytree(cifar10_of_tfds, folder / "cifar10")
    store(cache, "cifar10", 3)
    store(cache, "cifar10_10k", 4)
    shutil.copytree(cifar10_of_tfds, tfds / "cifar10")

    def source():
        return cifar10(folder).train["label"].tolist()

    assert cifar10().train["label"].tolist() == [3, 3]
    assert source() == [1, 1]
    (folder / "cifar10.npz").unlink()
    assert source() == [2, 2]
    (folder / "cifar10_10k.npz").unlink()
    assert source() == [*range(10)]
    shutil.rmtree(folder / "cifar10")
    assert source() == [3, 3]
    (cache / "cifar10.npz").unlink()
    assert source() == [4, 4]
    (cache / "cifar10_10k.npz").unlink()
    assert source() == [*range(10)]
    shutil.rmtree(tfds / "cifar10")
    with pytest.raises(FileNotFoundError):
        source()


def test_a_prepared_set_comes_in_the_order_of_its_ids(cifar10_of_tfds):
    found = cifar10(cifar10_of_tfds.parent)
    # TensorFlow Datasets has shuffled them, alike in both parts or not.
    np.testing.assert_array_equal(found.train["image"][:, 0, 0, 0], np.arange(10))
    np.testing.assert_array_equal(found.test["image"][:, 31, 31, 2], 100 + np.arange(10))
    np.testing.assert_array_equal(found.test["label"], np.arange(10))
    assert found.train["image"].shape == (10, 32, 32, 3)


def test_the_newest_version_is_taken_and_only_in_a_format_that_can_be_read(tmp_path):
    for version, kind in (("3.0.2", "array_record"), ("3.0.10", "tfrecord"), ("4.0", "riegeli")):
        place = tmp_path / "mnist" / version
        place.mkdir(parents=True)
        (place / f"mnist-train.{kind}-00000-of-00001").touch()
    assert prepared.find_prepared(tmp_path, "mnist").name == "3.0.10"
    assert prepared.find_prepared(tmp_path, "cifar10") is None


def example_message():
    """The class of ``tf.train.Example``, from its public definition."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, start=1):
            of = made.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                of.type, of.type_name = kinds.TYPE_MESSAGE, f".t.{kind}"
            else:
                of.type = kind

    message("BytesList", ("value", kinds.TYPE_BYTES, True))
    message("FloatList", ("value", kinds.TYPE_FLOAT, True))
    message("Int64List", ("value", kinds.TYPE_INT64, True))
    lists = ("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")
    message("Feature", *((field, kind, False) for field, kind in lists))
    # A map is stored as its entries.
    message("Entry", ("key", kinds.TYPE_STRING, False), ("value", "Feature", False))
    message("Features", ("feature", "Entry", True))
    message("Example", ("features", "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def write_tfrecords(place, name, part, shards):
    """Files of examples as TensorFlow Datasets writes them: (id, image, label) for each."""
    make = example_message()
    for number, examples in enumerate(shards):
        content = b""
        for name_of_one, pixels, *labels in examples:
            stored, example = io.BytesIO(), make()
            Image.fromarray(pixels).save(stored, "png")
            values = {"id": name_of_one, "image": stored.getvalue(), "other": b"more"}
            values |= dict(zip(("label", "coarse_label"), labels, strict=False))
            for key, value in values.items():
                entry = example.features.feature.add(key=key)
                kind = entry.value.int64_list if "label" in key else entry.value.bytes_list
                kind.value.extend([] if value is None else [value])
                kind.SetInParent()
            record = example.SerializeToString()
            content += len(record).to_bytes(8, "little") + bytes(4) + record + bytes(4)
        file = f"{name}-{part}.tfrecord-{number:05}-of-{len(shards):05}"
        (place / file).write_bytes(content)


def test_a_set_prepared_as_tfrecords_is_read_without_tensorflow(server, folder):
    place = folder / "cifar10/3.0.2"
    place.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    rows = [(b"row_%d" % row, images[row], row) for row in range(6)]
    write_tfrecords(place, "cifar10", "train", [[rows[3], rows[0]], [rows[2], rows[1]]])
    write_tfrecords(place, "cifar10", "test", [rows[4:]])
    found = cifar10(folder)
    assert not server.log
    np.testing.assert_array_equal(found.train["image"], images[:4])
    np.testing.assert_array_equal(found.test["image"], images[4:])
    assert (found.train["label"].tolist(), found.test["label"].tolist()) == ([0, 1, 2, 3], [4, 5])
    assert "label_coarse" not in found.train
    place_100 = folder / "cifar100/3.0.2"
    place_100.mkdir(parents=True)
    for part in ("train", "test"):
        write_tfrecords(place_100, "cifar100", part, [[(b"a", images[0], 99, 19)]])
    found_100 = cifar100(folder)
    assert (found_100.test["label"].item(), found_100.test["label_coarse"].item()) == (99, 19)
    second = place / "cifar10-train.tfrecord-00001-of-00002"
    second.write_bytes(second.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"00001-of-00002 is broken \(it ends within an example"):
        cifar10(folder)
    second.unlink()
    with pytest.raises(ValueError, match="files of cifar10-train are missing; there are 1"):
        cifar10(folder)
    write_tfrecords(place, "cifar10", "train", [[(b"row_0", images[0], None)], [rows[1]]])
    with pytest.raises(ValueError, match=r"00000-of-00002 is broken \(a feature without a value\)"):
        cifar10(folder)


@pytest.mark.parametrize("given", [True, False])
def test_where_tensorflow_is_installed_the_set_is_prepared(
    server, monkeypatch, cifar10_of_tfds, folder, tmp_path, given
):
    def prepare(place, name):
        shutil.copytree(cifar10_of_tfds, place / name)

    monkeypatch.setattr(prepared, "can_prepare", lambda: True)
    monkeypatch.setattr(prepared, "prepare", prepare)
    found = cifar10(folder if given else None)
    assert found.train["label"].tolist() == [*range(10)]
    assert ((folder if given else tmp_path / "tfds") / "cifar10").is_dir()
    assert [method for method, *_ in server.log] == ["HEAD"]


# What is wrong is said.


@pytest.mark.parametrize("with_tensorflow", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_without_a_connection_the_ways_out_are_named(monkeypatch, folder, name, with_tensorflow):
    def never(*args):
        raise AssertionError("tried to download without a connection")

    monkeypatch.setattr(prepared, "can_prepare", lambda: with_tensorflow)
    monkeypatch.setattr(prepared, "prepare", never)
    monkeypatch.setattr(archives, "fetch", never)
    with pytest.raises(FileNotFoundError) as raised:
        getattr(lnl_jax.data, name)(folder)
    text = str(raised.value)
    assert "\n" not in text
    for part in (
        f"{name} is in none of {folder}", "refused", f"data_dir, a folder with {name}.npz",
        "x_train, y_train, x_test, y_test", "tensorflow_datasets", "internet", "shapes32",
    ):  # fmt: skip
        assert part in text


def test_without_tensorflow_datasets_it_is_named(monkeypatch, folder):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    monkeypatch.setattr(archives.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'lnl-jax\[data\]'"):
        mnist()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_does_not_exist_is_named(server, folder, name):
    with pytest.raises(FileNotFoundError, match="data_dir must be a folder that exists.*absent"):
        getattr(lnl_jax.data, name)(folder / "absent")
    assert not server.log


@pytest.mark.parametrize(
    ("load", "shape", "expected"),
    [
        (cifar10, (28, 28), r"\[N, 32, 32, 3\] of uint8, got \(2, 28, 28, 1\)"),
        (cifar100, (32, 32, 4), r"\[N, 32, 32, 3\]"),
        (cifar100, (3, 32, 32), r"\[N, H, W, C\], got \(2, 3, 32, 32\).*transpose\(0, 2, 3, 1\)"),
        (cifar10, (3072,), r"\[N, 32, 32, 3\] of uint8, got \(2, 3072\)"),
        (mnist, (32, 32), r"\[N, 28, 28, 1\]"),
        (fashion_mnist, (28, 28, 3), r"\[N, 28, 28, 1\]"),
    ],
)
def test_images_of_another_size_are_refused(folder, load, shape, expected):
    store(folder, load.__name__, 0, shape)
    with pytest.raises(ValueError, match=rf"{load.__name__}\.npz: x_train must .*{expected}"):
        load(folder)


def test_images_of_floats_and_labels_of_another_set_are_refused(folder):
    store(folder, "cifar10", 0, dtype=np.float32)
    with pytest.raises(ValueError, match=r"cifar10\.npz: x_train holds images of float32"):
        cifar10(folder)
    store(folder, "cifar10", 10)
    with pytest.raises(
        ValueError, match=r"cifar10\.npz: y_train must be from 0 to 9.*in row 0: 10"
    ):
        cifar10(folder)
    store(folder, "cifar100", 99)
    assert cifar100(folder).num_classes == 100


def test_the_classes_are_in_the_order_of_the_labels():
    assert len({*image_sets.CIFAR100_CLASSES}) == 100
    # The fine labels of CIFAR-100 and the labels of CIFAR-10 are alphabetical.
    assert [*image_sets.CIFAR100_CLASSES] == sorted(image_sets.CIFAR100_CLASSES)
    assert [*image_sets.CIFAR10_CLASSES] == sorted(image_sets.CIFAR10_CLASSES)
    assert len({*image_sets.FASHION_CLASSES}) == len(image_sets.CIFAR10_CLASSES) == 10
