"""The converter of a file of PyTorch, which executes nothing, and the loader of what it writes."""

import functools
import os
import pickle
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lnl_jax.models import EfficientNetLite, load_efficientnet
from lnl_jax.models import _efficientnet_names as names
from lnl_jax.models.convert_efficientnet import convert, main

MODEL = EfficientNetLite(5, stages=((1, 3, 1, 1, 4), (1, 3, 1, 2, 4)), stem=4, top=8)
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def unicode(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def tensor(
    key, values, strides, kind="FloatStorage", rebuild=b"ctorch._utils\n_rebuild_tensor_v2\n"
):
    """The operations with which PyTorch writes a tensor."""
    shape, steps = (tuple_of(*map(number, sizes)) for sizes in (values.shape, strides))
    storage = tuple_of(
        unicode("storage"), f"ctorch\n{kind}\n".encode(), unicode(key), unicode("cpu"),
        number(values.size), b"N",
    )  # fmt: skip
    hooks = b"ccollections\nOrderedDict\n)R"
    return rebuild + tuple_of(storage + b"Q", number(0), shape, steps, b"\x89", hooks) + b"R"


def torch_file(tensors, *, extra=b"", **changes):
    """A file as ``torch.save`` wrote it in its old form; matrices lie column by column."""
    items, storages = [b"ccollections\nOrderedDict\n)R("], []
    for index, (name, values) in enumerate(tensors.items()):
        stored = np.array(values.T, order="C")
        strides = [step // values.itemsize for step in stored.T.strides]
        kind = "FloatStorage" if values.dtype == np.float32 else "LongStorage"
        items += [unicode(name), tensor(str(index), values, strides, kind, **changes)]
        storages.append(struct.pack("<q", values.size) + stored.tobytes())
    keys = b"](" + b"".join(unicode(str(index)) for index in range(len(tensors))) + b"e."
    sizes = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}
    head = [pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, sizes)]
    body = b"\x80\x02" + b"".join(items) + b"u" + extra + b"."
    return b"".join([*head, body, b"\x80\x02" + keys, *storages])


@functools.cache
def tensors():
    """What the published file would hold of the small model."""
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    sizes = {}
    for name, path, _ in names.published(MODEL):
        leaf = functools.reduce(lambda tree, key: tree[key], path, shapes)
        shape = leaf.shape
        if name == "_conv_stem.weight":
            shape = (shape[3], shape[2], *shape[:2])
        elif "depthwise" in name:
            shape = (shape[2], 1, *shape[:2])
        elif name == "_fc.weight":
            shape = shape[::-1]
        elif len(shape) == 2:
            shape = (*shape[::-1], 1, 1)
        sizes[name] = shape
    rng = np.random.default_rng(0)
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in sizes.items()}
    return drawn | {"_bn0.num_batches_tracked": np.array(3)}


def test_the_converter_writes_each_tensor_in_the_order_of_its_axes(tmp_path):
    (tmp_path / "a.pth").write_bytes(torch_file(tensors()))
    convert(str(tmp_path / "a.pth"), tmp_path / "a.safetensors", MODEL)
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == tensors().keys()
    for name, values in tensors().items():
        np.testing.assert_array_equal(found[name], values)


def test_every_number_of_the_file_is_in_the_variables(tmp_path):
    save_file(tensors(), tmp_path / "a.safetensors")
    loaded = load_efficientnet(tmp_path / "a.safetensors", model=MODEL)
    ours = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(loaded.variables)])
    theirs = [np.ravel(value) for value in tensors().values() if value.dtype == np.float32]
    np.testing.assert_array_equal(np.sort(ours), np.sort(np.concatenate(theirs)))
    first = loaded.variables["params"]["first"]["kernel"]
    np.testing.assert_array_equal(first[0, 1, 2], tensors()["_conv_stem.weight"][:, 2, 0, 1])
    kernel = loaded.variables["params"]["blocks_1"]["depthwise"]
    weight = tensors()["_blocks.1._depthwise_conv.weight"]
    np.testing.assert_array_equal(kernel[2, 0], weight[:, 0, 2, 0])


class Bomb:
    """Unpickling one makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def bombs(folder):
    """Pickles that do something when they are read, with what their refusal names."""
    command = unicode(str(folder))
    yield pickle.dumps(Bomb(folder), 2), f"{os.mkdir.__module__}.mkdir"
    yield pickle.dumps(Bomb(folder), 4), f"{os.mkdir.__module__}.mkdir"
    yield pickle.dumps(Bomb(folder), 0), f"{os.mkdir.__module__}.mkdir"
    yield torch_file(tensors(), rebuild=b"cos\nmkdir\n"), "os.mkdir"
    yield torch_file(tensors(), extra=b"0cos\nmkdir\n(" + command + b"tR"), "operation POP"
    yield torch_file(tensors(), extra=b"cbuiltins\neval\n(" + command + b"tR"), "builtins.eval"
    yield torch_file(tensors(), extra=b"(" + command + b"ios\nmkdir\n"), "INST of os.mkdir"
    yield torch_file(tensors(), rebuild=b"ctorch\nFloatStorage\n"), "calls torch.FloatStorage with"


def test_a_pickle_with_anything_else_in_it_is_refused_by_name_and_not_executed(tmp_path):
    marker, file = tmp_path / "executed", tmp_path / "a.pth"
    for content, name in bombs(marker):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="Nothing of it was executed") as error:
            convert(str(file), tmp_path / "a.safetensors", MODEL)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    assert not marker.exists()
    assert not (tmp_path / "a.safetensors").exists()


def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path):
    whole, file = torch_file(tensors()), tmp_path / "a.pth"
    for kept in [*range(0, len(whole), 397), len(whole) - 1]:
        file.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=rf"{kept} bytes.*cut off or is something else"):
            convert(str(file), tmp_path / "a.safetensors", MODEL)
    file.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="more follows the last tensor"):
        convert(str(file), tmp_path / "a.safetensors", MODEL)


def test_a_file_with_a_byte_changed_is_read_or_refused_in_one_line(tmp_path):
    whole, file, rng = torch_file(tensors()), tmp_path / "a.pth", np.random.default_rng(0)
    pickles = len(whole) - sum(8 + value.nbytes for value in tensors().values())
    messages = []
    for place, value in rng.integers(0, (pickles, 256), (500, 2)):
        file.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        try:
            convert(str(file), tmp_path / "a.safetensors", MODEL)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 300
    assert not [message for message in messages if not message.isprintable()]


def lies_beyond(values):
    """A tensor that reaches past its storage, or is far larger than it."""
    name = "_bn0.weight"
    whole = torch_file({name: values})
    shape = tuple_of(number(4)) + tuple_of(number(1))
    assert whole.count(shape) == 1
    yield whole.replace(shape, tuple_of(number(4)) + tuple_of(number(2)))
    yield whole.replace(shape, tuple_of(number(2**31 - 1)) + tuple_of(number(0)))
    yield whole.replace(shape, tuple_of(number(4)) + tuple_of(number(-1)))
    yield whole.replace(shape, tuple_of(number(4), number(1)) + tuple_of(number(1)))


def test_tensors_that_lie_beyond_their_storage_are_refused(tmp_path):
    for content in lies_beyond(tensors()["_bn0.weight"]):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(ValueError, match="is not a complete file of PyTorch"):
            convert(str(tmp_path / "a.pth"), tmp_path / "a.safetensors", MODEL)


OTHERS = {
    "zip": (b"PK\x03\x04", "is a zip archive, the newer form"),
    "text": (b"{}", "is not a complete file of PyTorch"),
    "other_model": (
        torch_file({"fc.weight": np.ones((2, 3), np.float32)}),
        r"missing: .*_bn0\.bias.*left over: fc\.weight",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_file_under_the_name_is_refused_in_one_line(tmp_path, case, capsys):
    content, message = OTHERS[case]
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(SystemExit, match=rf"^error: .*a\.pth.*{message}") as error:
        main([str(tmp_path / "a.pth"), str(tmp_path / "a.safetensors")])
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("a.safetensors*"))


def test_the_installed_package_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "some_weights" / "models"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("raise RuntimeError")
    (package / "a.pth").write_bytes(torch_file(tensors()))
    monkeypatch.syspath_prepend(tmp_path)
    path = convert("some_weights", tmp_path / "a.safetensors", MODEL)
    assert path == package / "a.pth"
    assert "some_weights" not in sys.modules


def test_without_safetensors_the_command_says_what_to_install_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(SystemExit, match=r"^error: safetensors is not installed: pip install 'lnl"):
        main(["a.pth", str(tmp_path / "a.safetensors")])


def test_what_cannot_be_converted_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got 'no_such_package': pip install .*towers"):
        convert("no_such_package", tmp_path / "a.safetensors", MODEL)
    with pytest.raises(ValueError, match=r"OUT must be a \.safetensors file"):
        convert("no_such_package", tmp_path / "a.npz", MODEL)


def test_weights_that_are_not_there_or_not_these_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights of EfficientNet-Lite at .*convert_eff"):
        load_efficientnet(tmp_path / "a.safetensors")
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="is a file of PyTorch, which is not read here"):
        load_efficientnet(tmp_path / "a.pth")
    save_file(tensors(), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors: .*another architecture; missing: "):
        load_efficientnet(tmp_path / "a.safetensors")
    wrong = tensors() | {"_fc.bias": np.zeros(6, np.float32)}
    save_file(wrong, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"scores/bias \(6,\) instead of \(5,\)"):
        load_efficientnet(tmp_path / "a.safetensors", model=MODEL)
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content[:-7])
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        load_efficientnet(tmp_path / "a.safetensors", model=MODEL)
