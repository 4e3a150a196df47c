"""Data sets that take a second, in place of those that are downloaded."""

import pathlib

import numpy as np

from lnl_jax.comparison.table_sets import OFFICIAL_TEST_ROWS


def write(folder: pathlib.Path) -> None:
    """Makes a folder for `--data_dir` with tables, images, features and annotations."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    # So many that each class has some that are held out.
    for name, columns, classes, size in (("letter", 16, 26, 780), ("vowel", 10, 11, 300)):
        labels = np.arange(size) % classes
        x = np.float32(rng.integers(0, 16, (size, columns)) + labels[:, None] / classes)
        # Fewer than there are test examples: as many would be read as a column of theirs.
        official = {OFFICIAL_TEST_ROWS: np.arange(size - 50, size)} if name == "letter" else {}
        save(folder / f"{name}.npz", x, labels, size * 4 // 5, **official)
    labels = np.arange(1500) % 10
    images = rng.integers(0, 30, (1500, 32, 32, 3)) + 20 * labels[:, None, None, None]
    worse = np.where(rng.random(1200) < 0.4, rng.integers(0, 10, 1200), labels[:1200])
    save(folder / "cifar10.npz", np.uint8(images), labels, 1200, y_train_worse=worse)
    save(folder / "data.npz", np.uint8(images), labels, 1200)
    judged = {"idx_test": np.arange(300), "counts10h_test": 1 + np.eye(10, dtype=int)[labels[:300]]}
    save(folder / "cifar10_10k.npz", np.uint8(images), labels, 1200, **judged)
    reviewed = {"id": [3, 4], "given": labels[1203:1205], "guess": [0, 0]}
    reviewed |= {"votes": [[0, 5, 0, 0], [5, 0, 0, 0]]}
    np.savez(
        folder / "label_errors.npz", **{f"cifar10_{k}": values for k, values in reviewed.items()}
    )
    given = [[row // 3, row % 3, (row // 3 + row % 5 // 4) % 2] for row in range(60)]
    columns = np.float32(rng.normal(size=(1500, 20)) + labels[:, None])
    save(folder / "features.npz", columns, labels, 1200, y_train_worse=worse)
    np.savez(folder / "crowd_rte.npz", annotations=given, y=np.arange(20) % 2)


def save(file, x, labels, cut, **more):
    """A data set cut into training and test part."""
    parts = {"x_train": x[:cut], "y_train": labels[:cut]}
    np.savez(file, **parts, x_test=x[cut:], y_test=labels[cut:], **more)
