"""Files that would hang, fill the memory, run something or end in a traceback: one line each."""

import gzip
import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from lnl_jax import data, models
from lnl_jax.data import archives
from lnl_jax.data.decoding import MOST_PIXELS, decode
from lnl_jax.distill.labels import read_labels, write_labels
from lnl_jax.models._clip_configs import hugging_face_model
from lnl_jax.runner.saved_runs import find_runs
from lnl_jax.runner.usage import UsageError
from tests.faults import mutated_files
from tests.faults.mutated_forms import cifar, clip_of, png, results


def write_zip(path, content, key="x_train"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{key}.npy", content)


def npy(shape, descr="<f8", more=b""):
    file = io.BytesIO()
    head = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)
    return file.getvalue() + more


NPZ = {
    "told": (
        npy((10**12,)),
        r"set\.npz: x_train cannot be read .*8,000,000,000,000 bytes, but 0 fo",
    ),
    "negative": (npy((-1, -8)), r"set\.npz: x_train cannot be read .*64 bytes, but 0 follow"),
    "zero wide": (npy((10**12,), "|S0"), r"x_train cannot be read"),
    "dtype": (npy((1,), "<q9"), r"x_train cannot be read|at x_train"),
    "literal": (b"\x93NUMPY\1\0\x06\0{'a'(\n", r"x_train cannot be read|at x_train"),
    "long header": (b"\x93NUMPY\2\0\xff\xff\xff\x7f", "its header is too long"),
    "other": (b"no array", "does not begin as an array does"),
}


@pytest.mark.parametrize("kind", NPZ)
def test_an_array_is_made_only_where_its_bytes_are_there(tmp_path, kind):
    content, message = NPZ[kind]
    write_zip(tmp_path / "set.npz", content)
    with pytest.raises(ValueError, match=message):
        data.load_npz(tmp_path, "set")


def test_packed_files_are_not_unpacked_without_bound(tmp_path, monkeypatch):
    zeros = npy((1 << 17,), more=bytes(1 << 20))
    write_zip(tmp_path / "set.npz", zeros)
    with pytest.raises(ValueError, match="x_test, y_test are missing|are missing"):
        data.load_npz(tmp_path, "set")
    monkeypatch.setattr("lnl_jax._files.FREELY_UNPACKED", 1 << 16)
    with pytest.raises(ValueError, match=r"set\.npz is no .npz .*bytes would unpack to 1,048,704"):
        data.load_npz(tmp_path, "set")
    (tmp_path / "mnist").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "mnist" / f"{name}-ubyte.gz").write_bytes(gzip.compress(bytes(1 << 18)))
    monkeypatch.setattr("lnl_jax.data.archives.MOST_BYTES", 1 << 16)
    with pytest.raises(ValueError, match=r"mnist is broken .*at most 65,536 bytes are read"):
        archives.read("mnist", tmp_path / "mnist")
    cifar(tmp_path)
    monkeypatch.setattr("lnl_jax.data.archives.MOST_UNPACKED", 1 << 12)
    with pytest.raises(
        ValueError, match=r"cifar-10-binary.tar.gz is broken .*more than 4,096 bytes"
    ):
        archives.read("cifar10", tmp_path / "cifar-10-binary.tar.gz")


def test_locked_files_and_pickles_are_refused_and_not_run(tmp_path):
    for number, change in enumerate((mutated_files.locked, mutated_files.harm_inside)):
        write_labels(tmp_path / f"{number}.npz", {"logits": np.zeros((2, 3))}, {})
        change(tmp_path / f"{number}.npz", None, tmp_path / "marker")
        with pytest.raises(
            ValueError, match=rf"{number}\.npz is no whole file of labels.*(encr|ob)"
        ):
            read_labels(tmp_path / f"{number}.npz", None)
    mutated_files.harm_inside(tmp_path / "n.npy", None, tmp_path / "marker")
    with pytest.raises(ValueError, match=r"n\.npy is no .npz or .npy file of plain integers"):
        data.human_labels(tmp_path / "n.npy", [0, 1])
    assert not (tmp_path / "marker").exists()


# Pictures.


def test_too_many_pixels_are_refused_before_they_are_made():
    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "png")
    assert 12_000**2 > MOST_PIXELS
    with pytest.raises(
        ValueError, match=r"a\.png cannot be decoded \(12000 x 12000 pixels are too"
    ):
        decode(file.getvalue(), "a.png", lambda image: image)


def test_no_format_is_read_for_which_another_program_is_started():
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(ValueError, match=r"a\.png cannot be decoded \(not an image\)"):
        decode(content, "a.png", lambda image: image)


PLACES = {
    "pipe": (lambda path: os.mkfifo(path), "is a pipe and no file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device and no file"),
    "loop": (lambda path: path.symlink_to(path.name), "is a link that leads to itself"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(tmp_path, kind):
    make, message = PLACES[kind]
    for name in ("cat/0.jpg", "dog/0.jpg", "cat/3.jpg/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(form="jpeg"))
    make(tmp_path / "dog" / "1.jpg")
    found = data.image_folder(tmp_path)
    assert [line for line in found.skipped if "3.jpg" in line]
    with pytest.raises(ValueError, match=rf"dog/1\.jpg {message}.*Of 3 images 1"):
        data.readable(found)
    assert len(data.readable(found, skip_unreadable=True)[0].files) == 2
    with pytest.raises(ValueError, match=rf"dog/1\.jpg {message}"):
        data.labelled_folder(str(tmp_path))
    for name in ("a.tar", "b.tsv"):
        (tmp_path / kind / name).parent.mkdir(exist_ok=True)
        make(tmp_path / kind / name)
        with pytest.raises(ValueError, match=message):
            data.image_text(tmp_path / kind, image_size=4)
        (tmp_path / kind / name).unlink()


def test_names_in_other_bytes_than_utf8_are_refused(tmp_path):
    for name in (b"cat", b"d\xffg"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
    with pytest.raises(ValueError, match=r"'d\\udcffg' is not named in UTF-8"):
        data.image_folder(tmp_path)


# Pairs.


def write_member(path, **changes):
    """A picture, and what is said to be its caption."""
    with tarfile.open(path, "w") as file:
        for name, content in (("0.png", png()), ("1.png", png()), ("1.txt", b"a caption")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo("0.txt")
        for key, value in changes.items():
            setattr(info, key, value)
        file.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
        file.offset = file.fileobj.tell()


MEMBERS = {
    "link": ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "0.txt: .*no plain file"),
    "hard link": ({"type": tarfile.LNKTYPE, "linkname": "1.txt"}, "0.txt: .*no plain file"),
    "5 GB": ({"size": 5 << 30}, r"0\.txt: .*5,368,709,120 bytes long|cut off or damaged"),
    "long name": ({"type": tarfile.GNUTYPE_LONGNAME, "size": 5 << 30}, "asks for 5,368,709,120 b"),
    "negative": ({"size": -512}, "a size of -512"),
}


@pytest.mark.parametrize("kind", MEMBERS)
def test_captions_that_are_links_or_immense_are_named(tmp_path, kind):
    changes, message = MEMBERS[kind]
    write_member(tmp_path / "0.tar", **changes)
    with pytest.raises(ValueError, match=message):
        data.image_text(tmp_path, image_size=4)
    assert data.image_text(tmp_path, image_size=4, skip_unreadable=True).caption == ("a caption",)


def test_tables_have_fields_and_lines_of_bounded_length(tmp_path, monkeypatch):
    (tmp_path / "a.tsv").write_text("filepath\ttitle" + "x" * 200_000 + "\n")
    with pytest.raises(ValueError, match=r"a\.tsv, line 1 cannot be read \(field larger than"):
        data.image_text(tmp_path, image_size=4)
    (tmp_path / "a.tsv").write_text("filepath\ttitle\n0.png\t" + "x" * 200_000 + "\n")
    with pytest.raises(ValueError, match=r"a\.tsv, line 2: field larger than field limit"):
        data.image_text(tmp_path, image_size=4)
    (tmp_path / "a.csv").write_text("x,label\n1," + "9" * 5000 + "\n1,2\n")
    assert data.csv_table(tmp_path / "a.csv").num_classes == 2
    monkeypatch.setattr("lnl_jax._files.MOST_IN_A_LINE", 1000)
    with pytest.raises(ValueError, match=r"a\.csv, line 2 has more than 1,000 characters"):
        data.csv_table(tmp_path / "a.csv")


# Weights.


@pytest.mark.parametrize(
    "part", ["model.safetensors.index.json", "../a.safetensors", "/a.safetensors", 3, None, ["a"]]
)
def test_an_index_names_weights_beside_it(tmp_path, part):
    (tmp_path / "config.json").write_text("{}")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": part}}))
    with pytest.raises(
        ValueError, match=r"index\.json must have a weight_map that names \*\.safet"
    ):
        models.load_clip(tmp_path)


@pytest.mark.parametrize("path", ["config.json", "model.safetensors"])
def test_a_pipe_among_weights_is_not_waited_for(tmp_path, path):
    clip_of("hf_clip_gelu")(tmp_path)
    (tmp_path / path).unlink()
    os.mkfifo(tmp_path / path)
    with pytest.raises(ValueError, match=f"{path} is a pipe"):
        models.load_clip(tmp_path)


SHAPES = {
    "visual_projection.weight": (8, 8),
    "vision_model.embeddings.patch_embedding.weight": (8, 3, 4, 4),
    "vision_model.embeddings.position_embedding.weight": (5, 8),
    "vision_model.encoder.layers.0.mlp.fc1.weight": (8, 8),
    "text_model.embeddings.token_embedding.weight": (50_000, 8),
    "text_model.embeddings.position_embedding.weight": (5, 8),
    "text_model.encoder.layers.0.mlp.fc1.weight": (8, 8),
}
HEADS = {"num_attention_heads": 2}
WRONG = [
    ({"vision_config": "text"}, "an object as vision_config"),
    ({"vision_config": [1]}, "an object as vision_config"),
    ({"num_attention_heads": "2"}, "a whole number above 0 as num_attention_heads, got '2'"),
    ({"num_attention_heads": True}, "a whole number above 0"),
    ({"num_attention_heads": 0}, "a whole number above 0"),
    ({"hidden_act": ["gelu"]}, r"asks for the activation \['gelu'\]"),
    ({"layer_norm_eps": None}, ""),
    ({"layer_norm_eps": "1e-5"}, "a number above 0 as layer_norm_eps"),
    ({"layer_norm_eps": float("nan")}, "a number above 0 as layer_norm_eps"),
    ({"image_size": "224"}, "a whole number above 0 as image_size"),
    ({"image_size": [8, 9]}, "a square image_size"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_configurations_of_wrong_types_are_named(change, message):
    vision = change if "vision_config" not in change else {}
    config = {"vision_config": HEADS | vision, "text_config": HEADS} | (
        change if not vision else {}
    )
    if not message:
        assert hugging_face_model(SHAPES, config).image.epsilon == 1e-5
        return
    with pytest.raises(ValueError, match=message):
        hugging_face_model(SHAPES, config)
    layers = {"text_model.encoder.layers.900000000.mlp.fc1.weight": (8, 8)}
    with pytest.raises(ValueError, match="layers must be numbered from 0 on, got 2 with 900000000"):
        hugging_face_model(SHAPES | layers, {"vision_config": HEADS, "text_config": HEADS})


# Crowds, and the folders of results.


def test_a_slip_among_annotations_fills_no_memory(tmp_path):
    rows = np.array([[0, 0, 1], [1, 0, 0]])
    for column, what in enumerate(("item", "annotator", "class")):
        wrong = rows.copy()
        wrong[0, column] = 2_000_000_000
        np.savez(tmp_path / "a.npz", annotations=wrong)
        with pytest.raises(ValueError, match=rf"a\.npz: .*({what}|classes must be numbered)"):
            data.crowd_npz(tmp_path, name="a")


REPORTS = {
    "list": ("config.json", "[]", "holds no JSON object"),
    "device": ("config.json", '{"device": [1]}', "device must be a JSON object"),
    "program": ("config.json", '{"argv": [], "program": 3}', "program must be text"),
    "rows": ("metrics.jsonl", "[1]\n", "metrics.jsonl, line 1 .* no JSON object"),
    "tables": (
        "summary.json",
        '{"tables": {"results": {"a": 1}}}',
        "tables.results must be a list",
    ),
    "seconds": ("summary.json", '{"seconds": "long"}', "seconds must be a number"),
    "large": ("summary.json", '{"seconds": 1' + "0" * 50 + "}", "a number beyond 64 bits"),
    "deep": ("summary.json", "[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "empty": ("summary.json", "", "summary.json is not JSON"),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_files_of_results_of_another_shape_are_named(tmp_path, kind):
    name, text, message = REPORTS[kind]
    results(tmp_path)
    (tmp_path / "toy" / "seed=0" / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        find_runs([tmp_path])


def test_a_page_follows_no_link_out_of_the_results(tmp_path):
    from lnl_jax.runner.report import report

    results(tmp_path)
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    for name in ("more.csv", "figure.png"):
        file = tmp_path / "toy" / "seed=0" / name
        file.unlink()
        file.symlink_to(secret)
        with pytest.raises(UsageError, match=rf"{name} is a link, which is not followed"):
            report(find_runs([tmp_path / "toy"]))
        file.unlink()
