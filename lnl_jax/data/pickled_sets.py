"""Image sets in forms that are not read: pickles, which can run any program when they are read."""

from pathlib import Path
from typing import NamedTuple

from lnl_jax.data import archives


class _Pickles(NamedTuple):
    archive: str
    folder: str  # in it
    train: tuple[str, ...]
    test: str
    labels: str


PICKLES = {
    "cifar10": _Pickles(
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        tuple(f"data_batch_{batch}" for batch in range(1, 6)),
        "test_batch",
        "labels",
    ),
    "cifar100": _Pickles(
        "cifar-100-python.tar.gz", "cifar-100-python", ("train",), "test", "fine_labels"
    ),
}


def refuse_pickles(name: str, folder: Path) -> None:
    """Says how to convert what a folder has of a set, if it is in a form that is not read.

    Raises:
        ValueError: if there is such a form; names it.
    """
    if name not in PICKLES:
        if (folder / archives.IDX_FILE).is_file() or (folder / f"{archives.IDX_FILE}.gz").is_file():
            raise ValueError(
                f"{folder} has {archives.IDX_FILE}, but MNIST and Fashion-MNIST name their files "
                f"alike: move the four files of {name} into {folder / name}."
            )
        return
    known = PICKLES[name]
    for path in (folder / known.folder, folder):
        if (path / known.train[0]).is_file():
            raise ValueError(
                f"{path} holds {name} as pickles, which are not read, because that may run any "
                f"program. {_converted(name, known, path, folder)}"
            )
    if (path := folder / known.archive).is_file():
        raise ValueError(
            f"{path} holds {name} as pickles, which are not read, because that may run any "
            f"program. Unpack it, tar -xzf {path} -C {folder}; then: "
            f"{_converted(name, known, folder / known.folder, folder)}"
        )


def _converted(name: str, known: _Pickles, path: Path, folder: Path) -> str:
    count = len(known.train)
    code = (
        "import pickle, numpy as np; "
        f"files = [{str(path)!r} + '/' + name for name in {[*known.train, known.test]!r}]; "
        "all = [pickle.load(open(file, 'rb'), encoding='latin1') for file in files]; "
        "x = [np.uint8(one['data']).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for one in all]; "
        f"y = [np.int64(one['{known.labels}']) for one in all]; "
        f"np.savez({str(folder / name)!r}, x_train=np.concatenate(x[:{count}]), "
        f"y_train=np.concatenate(y[:{count}]), x_test=x[{count}], y_test=y[{count}])"
    )
    return (
        f"Convert them once, if you trust them, into {folder / name}.npz with Python: {code} -- or "
        f"put the binary version, {archives.ARCHIVES[name].tar} of the same page, into {folder}."
    )
