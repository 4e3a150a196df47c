"""Every kind of file that the library reads: how a small whole one is made, and what reads it."""

import bz2
import csv
import functools
import gzip
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordPiece

from lnl_jax import data, models
from lnl_jax.data import archives, prepared
from lnl_jax.data.many_classes import K49_FILES
from lnl_jax.data.preprocess import siglip_images
from lnl_jax.distill.labels import read_labels, write_labels
from lnl_jax.models.convert_efficientnet import convert
from lnl_jax.runner import files
from lnl_jax.runner.report import report
from lnl_jax.runner.saved_runs import find_runs
from lnl_jax.runner.usage import UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
CLEAN = np.arange(60) % 10
NETWORK = models.EfficientNetLite(5, stages=((1, 3, 1, 1, 4), (1, 3, 1, 2, 4)), stem=4, top=8)


class Form(NamedTuple):
    """A kind of file.

    Attributes:
        make: writes whole files into an empty folder.
        read: takes the folder and reads all of it, as a study would.
    """

    make: object
    read: object


def png(size=(9, 7), shade=100, form="png"):
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 10, 200)).save(file, form)
    return file.getvalue()


def lines(path, *rows, delimiter=","):
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def splits(folder, save):
    x, y = np.arange(240, dtype=np.uint8).reshape(10, 4, 6), np.arange(10) % 3
    more = {"y_train_other": y, "weight_train": np.linspace(0, 1, 10), "note": np.array("ann")}
    save(folder / "set.npz", x_train=x, y_train=y, x_test=x, y_test=y, **more)


def tables(folder):
    rows = [[at, at / 3, "cat" if at % 2 else "dog"] for at in range(8)]
    lines(folder / "table.csv", ["legs", "wings", "label"], *rows)


def paths(folder):
    for at in range(4):
        (folder / f"{at}.png").write_bytes(png(shade=at))
    rows = [[f"{at}.png", "cat" if at % 2 else "dog"] for at in range(4)]
    lines(folder / "table.csv", ["file", "label"], *rows)


def crowd(folder):
    rows = [[f"i{at // 3}", f"a{at % 3}", at % 2, at // 6] for at in range(12)]
    lines(folder / "labels.csv", ["item", "annotator", "label", "true"], *rows, delimiter=";")
    lines(folder / "x.csv", ["item", "one", "two"], *([f"i{at}", at, -at] for at in range(4)))


def read_crowd(folder):
    data.crowd_csv(folder / "labels.csv", truth="true", features=folder / "x.csv")


def crowd_arrays(folder):
    annotations = np.array([[at // 3, at % 3, at % 2] for at in range(12)])
    sparse = {
        "bow_indptr_test": np.arange(5),
        "bow_indices_test": np.arange(4),
        "bow_counts_test": np.ones(4),
    }
    x = np.zeros((4, 2), np.float32)
    np.savez(
        folder / "set.npz", annotations=annotations, y=[0, 1, 0, 1], x_train=x, y_test=[0] * 4,
        **sparse,
    )  # fmt: skip


def votes(folder):
    rows = [[f"i{at // 2}", "new", "old", f"v{at % 2}", "new"] for at in range(6)]
    lines(folder / "votes.csv", ["item", "preferred", "other", "voter", "best"], *rows)


def classes(folder):
    for at in range(6):
        path = folder / ("cat" if at < 3 else "dog") / f"{at}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png((30, 20), at, ("jpeg", "png", "webp")[at % 3]))


def read_classes(folder):
    found = data.image_folder(folder)
    data.readable(found, num_threads=1)
    data.MiddleImages(found.files, 4)[np.arange(len(found.files))]
    data.labelled_folder(str(folder), size=8)


def shard(folder):
    members = {}
    for at in range(4):
        members[f"{at}.png"] = png(shade=at)
        members[f"{at}.txt"] = b"a caption"
        members[f"{at + 4}.jpg"] = png(shade=at, form="jpeg")
        members[f"{at + 4}.json"] = json.dumps({"caption": "something", "sha": "0"}).encode()
    with tarfile.open(folder / "0.tar", "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def pairs(folder):
    for at in range(4):
        (folder / f"{at}.png").write_bytes(png(shade=at))
    rows = [["filepath", "title"], *([f"{at}.png", f"the {at}th"] for at in range(4))]
    lines(folder / "pairs.tsv", *rows, delimiter="\t")


def read_pairs(folder):
    found = data.image_text(folder, image_size=4)
    data.readable(found, num_threads=1)
    found.image[np.arange(len(found.caption))]


def cifar(folder):
    record = np.zeros((2, 3073), np.uint8)
    parts = [*(f"data_batch_{at}" for at in range(1, 6)), "test_batch"]
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as file:
        for part in parts:
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{part}.bin")
            info.size = record.nbytes
            file.addfile(info, io.BytesIO(record.tobytes()))


def unpacked_cifar(folder):
    for part in ("train", "test"):
        (folder / f"{part}.bin").write_bytes(bytes(2 * 3074))


def digits(folder):
    (folder / "mnist").mkdir()
    for prefix in ("train", "t10k"):
        for kind, shape in (("images-idx3", (3, 28, 28)), ("labels-idx1", (3,))):
            head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
            content = gzip.compress(head + bytes(int(np.prod(shape))))
            (folder / "mnist" / f"{prefix}-{kind}-ubyte.gz").write_bytes(content)


def read_set(name, folder):
    if archives.find(name, folder) is None and prepared.find_prepared(folder, name) is None:
        # It would be looked for elsewhere.
        raise FileNotFoundError(f"{folder} holds no {name}.")
    getattr(data, name)(folder)


def field(number, content):
    """A field of a protocol buffer with bytes in it."""
    size = len(content)
    length = b""
    while True:
        size, low = size >> 7, size & 127
        length += bytes([low | 128 * bool(size)])
        if not size:
            return bytes([number << 3 | 2]) + length + content


def records(folder):
    folder = folder / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        content = b""
        for at in range(3):
            values = {
                b"image": field(1, field(1, png((32, 32), at))),
                b"id": field(1, field(1, b"a")),
            }
            values[b"label"] = field(3, field(1, bytes([at])))
            entries = [field(1, field(1, key) + field(2, value)) for key, value in values.items()]
            example = field(1, b"".join(entries))
            content += len(example).to_bytes(8, "little") + bytes(4) + example + bytes(4)
        (folder / f"cifar10-{part}.tfrecord-00000-of-00001").write_bytes(content)


def names(folder):
    (folder / "names.json").write_text(json.dumps([f"class {at}" for at in range(1000)]))


def labels(folder):
    arrays = {"logits": np.zeros((4, 3), np.float16), "rows": np.arange(4)}
    write_labels(folder / "labels.npz", arrays, {"seed": 0})


TOWER = data.Tower("mean", lambda _, x: x.mean((1, 2)), (), siglip_images)
IMAGES = np.zeros((4, 8, 8, 3), np.uint8)


def features(folder):
    data.embed(TOWER, IMAGES, 4, cache=folder / "x.npz", batch_size=2)


def half_features(folder):
    head = json.dumps(data.features._fingerprint(TOWER, IMAGES, 4)).encode()
    (folder / "x.npz.part").write_bytes(head + b"\n" + bytes(24))


def read_features(folder):
    data.embed(TOWER, IMAGES, 4, cache=folder / "x.npz", batch_size=2)


def of_class_names(folder):
    for part in ("train", "val"):
        for name in ("n01", "n02"):
            for at in range(3):
                path = folder / "set" / part / name / f"{at}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(shade=at))
    (folder / "words.txt").write_text("n01 cat, kitten\nn02 dog\n")


def read_class_names(folder):
    from lnl_jax.distill.images import folder_parts

    folder_parts(
        str(folder / "set"), class_names=str(folder / "words.txt"), validation_per_class=1, seed=0
    )


def clip_of(name):
    def make(folder):
        is_open = name.startswith("open")
        names = ("open_clip_model.safetensors", "open_clip_config.json")
        names = names if is_open else ("model.safetensors", "config.json")
        shutil.copy(GOLDEN / "clip_tiny" / name / "model.safetensors", folder / names[0])
        shutil.copy(GOLDEN / "clip_tiny" / name / "config.json", folder / names[1])

    return make


def clip_in_parts(folder):
    clip_of("hf_clip_gelu")(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"part{at % 2}.safetensors" for at, name in enumerate(tensors)}
    for part in set(places.values()):
        save_file({n: v for n, v in tensors.items() if places[n] == part}, folder / part)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def siglip_of(name):
    def make(folder):
        from tests.models.test_siglip import CONFIGS, tensors

        save_file(tensors(name), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(CONFIGS[name]))

    return make


def sentences(folder):
    from tests.models.test_sentences import folder as write

    write(folder, pooling={"pooling_mode_mean_tokens": True})


def read_sentences(folder):
    models.load_sentence_encoder(folder)
    models.load_sentence_tokenizer(folder, context_length=12)(["a b c", "zz"])


def clip_words(folder):
    letters = [*"abct", *(f"{letter}</w>" for letter in "abct"), "ca", "cat</w>"]
    letters += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: at for at, token in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")


def siglip_words(folder):
    pieces = ["<pad>", "</s>", "<unk>", "a", "cat", "s"]
    Tokenizer(Unigram([(piece, -1.0) for piece in pieces], unk_id=2)).save(
        str(folder / "tokenizer.json")
    )


def gemma_words(folder):
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "a", "c", "t", "ca", "cat"]
    vocabulary = {token: at for at, token in enumerate(letters)}
    pairs = BPE(vocabulary, [("c", "a"), ("ca", "t")], unk_token="<unk>")
    Tokenizer(pairs).save(str(folder / "tokenizer.json"))


def piece_words(folder):
    words = {word: at for at, word in enumerate(["[UNK]", "<|startoftext|>", "<|endoftext|>", "a"])}
    Tokenizer(WordPiece(words, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))


def lite(folder):
    from tests.models.test_efficientnet_weights import tensors

    save_file(tensors(), folder / "lite.safetensors")


def torch(folder):
    from tests.models.test_efficientnet_weights import tensors, torch_file

    (folder / "lite.pth").write_bytes(torch_file(tensors()))


def read_torch(folder):
    out = folder / "out.safetensors"
    try:
        convert(str(folder / "lite.pth"), out, NETWORK)
    finally:
        out.unlink(missing_ok=True)


def results(folder):
    for seed in (0, 1):
        path = folder / "toy" / f"seed={seed}"
        path.mkdir(parents=True)
        config = {
            "experiment": "toy", "program": "python run.py", "argv": ["--exp", "toy"], "git": "abc",
            "arguments": {"seed": seed, "loss": "ce"}, "overrides": {"seed": seed},
            "device": {"kind": "cpu", "count": 1}, "versions": {"jax": "1"}, "data_dir": None,
        }  # fmt: skip
        files.write_json(path / "config.json", config)
        rows = [{"epoch": at, "method": m, "loss": 1 / at} for at in (1, 2, 3) for m in ("a", "b")]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (path / "metrics.jsonl").write_text(text)
        table = [{"method": "a", "accuracy %": 9.5, "std": 0.1}, {"method": "b", "accuracy %": 8.5}]
        summary = {"seconds": 1.5, "last": rows[-1], "tables": {"results": table}}
        files.write_json(path / "summary.json", summary)
        (path / "more.csv").write_text("x,y\n1,2\n")
        (path / "figure.png").write_bytes(png())


def read_results(folder):
    try:
        report(find_runs([folder])).encode(errors="backslashreplace")
    except UsageError as error:
        # Which the command makes a line.
        raise ValueError(str(error)) from error


def under(name, read, *arguments, **options):
    """A reader of a file of this name."""
    return lambda folder: read(folder / name, *arguments, **options)


def words(folder):
    counts = np.random.default_rng(0).poisson(1, (20, 5))
    row, column = np.nonzero(counts)
    rows = {
        "data": np.float32(counts[row, column]),
        "indices": np.int32(column),
        "indptr": np.searchsorted(row, np.arange(21)).astype(np.int32),
    }
    parts = ("train", "test")
    arrays = {f"x_{part}_{name}": values for part in parts for name, values in rows.items()}
    np.savez(folder / "news20.npz", y_train=np.arange(20), y_test=np.arange(20), **arrays)


def libsvm(folder):
    text = "".join(f"{at % 20 + 1} {at % 3 + 1}:2 {at % 3 + 4}:1\n" for at in range(20))
    (folder / "news20").write_text(text)
    (folder / "news20.t.bz2").write_bytes(bz2.compress(text.encode()))


def hiragana(folder):
    for part in ("train", "test"):
        np.savez(folder / f"k49-{part}-imgs.npz", np.zeros((49, 28, 28), np.uint8))
        np.savez(folder / f"k49-{part}-labels.npz", np.arange(49))


def tiny_names():
    yield "wnids.txt", b"n02\nn01\n"
    yield "val/val_annotations.txt", b"val_0.JPEG\tn01\t0\t0\t1\t1\n"
    yield "val/images/val_0.JPEG", png((64, 64), form="jpeg")
    for name in ("n01", "n02"):
        yield f"train/{name}/images/{name}_0.JPEG", png((64, 64), form="jpeg")


def tiny_folder(folder):
    for name, content in tiny_names():
        path = folder / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def tiny_zip(folder):
    with zipfile.ZipFile(folder / "tiny-imagenet-200.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in tiny_names():
            archive.writestr(f"tiny-imagenet-200/{name}", content)


def glasses(folder):
    x, y = np.random.default_rng(0).normal(size=(60, 9)), np.arange(60) % 6
    np.savez(folder / "glass.npz", x_train=x, y_train=y)


def noisy_and_clean(folder):
    for part in ("train", "val"):
        classes(folder / part)


def read_parts(folder):
    for part in data.train_and_val(folder):
        data.readable(part, num_threads=1)
        data.MiddleImages(part.files, 4)[np.arange(len(part.files))]


def from_here(read, *names):
    """A reader that would look elsewhere for what is not in its folder."""

    def from_folder(folder):
        for name in names:
            if not (folder / name).exists():
                raise FileNotFoundError(f"{folder} holds no {name}.")
        read(folder)

    return from_folder


FORMS = {
    "npz": Form(lambda f: splits(f, np.savez), lambda f: data.load_npz(f, "set")),
    "npz packed": Form(lambda f: splits(f, np.savez_compressed), lambda f: data.load_npz(f, "set")),
    "csv": Form(tables, under("table.csv", data.csv_table)),
    "csv of images": Form(paths, under("table.csv", data.csv_table, image="file", size=4)),
    "crowd csv": Form(crowd, read_crowd),
    "crowd npz": Form(crowd_arrays, lambda f: data.crowd_npz(f, name="set")),
    "votes": Form(votes, under("votes.csv", data.candidate_csv, voter="voter", best="best")),
    "human labels npz": Form(
        lambda f: np.savez(f / "n.npz", clean_label=CLEAN, worse_label=CLEAN),
        under("n.npz", data.human_labels, CLEAN),
    ),
    "human labels npy": Form(
        lambda f: np.save(f / "worse.npy", CLEAN), under("worse.npy", data.human_labels, CLEAN)
    ),
    "folder": Form(classes, read_classes),
    "shard": Form(shard, read_pairs),
    "tsv": Form(pairs, read_pairs),
    "cifar tar": Form(cifar, functools.partial(read_set, "cifar10")),
    "cifar unpacked": Form(unpacked_cifar, functools.partial(read_set, "cifar100")),
    "mnist": Form(digits, functools.partial(read_set, "mnist")),
    "tfrecord": Form(records, functools.partial(read_set, "cifar10")),
    "words": Form(words, from_here(data.news20, "news20.npz")),
    "words of libsvm": Form(libsvm, from_here(data.news20, "news20", "news20.t.bz2")),
    "kuzushiji49": Form(
        hiragana, from_here(data.kuzushiji49, *(name for name, _ in K49_FILES.values()))
    ),
    "tiny imagenet unpacked": Form(tiny_folder, from_here(data.tiny_imagenet, "tiny-imagenet-200")),
    "tiny imagenet": Form(tiny_zip, from_here(data.tiny_imagenet, "tiny-imagenet-200.zip")),
    "table of numbers": Form(glasses, from_here(data.glass, "glass.npz")),
    "order of images": Form(
        lambda f: np.save(f / "order.npy", data.tfds_order()), under("order.npy", data.image_order)
    ),
    "folders of two parts": Form(noisy_and_clean, read_parts),
    "class names": Form(names, under("names.json", data.imagenet_class_names)),
    "words of classes": Form(of_class_names, read_class_names),
    "soft labels": Form(labels, under("labels.npz", read_labels, {"seed": 0})),
    "features": Form(features, read_features),
    "half of the features": Form(half_features, read_features),
    **{
        f"clip {name}": Form(clip_of(name), models.load_clip)
        for name in ("hf_clip_gelu", "open_clip_vit_gelu", "open_clip_rn")
    },
    "clip in parts": Form(clip_in_parts, models.load_clip),
    **{name: Form(siglip_of(name), models.load_siglip) for name in ("siglip", "siglip2_naflex")},
    "sentences": Form(sentences, read_sentences),
    "clip vocabulary": Form(clip_words, lambda f: models.load_tokenizer(f)(["a cat", "zz"])),
    "clip tokenizer": Form(piece_words, lambda f: models.load_tokenizer(f)(["a cat", "zz"])),
    "siglip vocabulary": Form(
        siglip_words, lambda f: models.load_siglip_tokenizer(f)(["a cats", "zz"])
    ),
    "siglip2 vocabulary": Form(
        gemma_words, lambda f: models.load_siglip_tokenizer(f)(["a cats", "zz"])
    ),
    "efficientnet": Form(lite, under("lite.safetensors", models.load_efficientnet, model=NETWORK)),
    "torch file": Form(torch, read_torch),
    "results": Form(results, read_results),
}
