"""(h) ResNet-18 on CIFAR-10 with false labels: the study as a command, or its losses alone."""

import importlib.util
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from accelerator_sections import JAX
from accelerator_sections.bench import Bench, reason

HELD_AGAINST = "no roof: accuracies after as many epochs as the time holds, and images per second"
ROOT = pathlib.Path(__file__).resolve().parents[2]
# What the command line of the studies imports beyond the library.
NEEDED = ("orbax.checkpoint", "matplotlib", "rich")
NOISE_RATE, PAPER_EPOCHS, BATCH, METHODS = 0.6, 30, 128, 4
# Of the command: imports, reading, and the compilation of eight programs with the network.
SECONDS_BEFORE, SECONDS_AFTER = 75, 15
# Scores take about a third of a step, and every epoch scores parts of the data.
SCORED_TO_TRAINED = 1 / 3


def run(bench: Bench) -> None:
    """The command where its file and what it imports are there; else the losses alone."""
    why = no_command(bench.data_dir)
    bench.note(source="command" if why is None else why)
    if why is None:
        as_command(bench)
    else:
        alone(bench)


def no_command(data_dir: str | None) -> str | None:
    """Why the study cannot be started, or None."""
    if data_dir is None:
        return "no --data_dir was given"
    if not (pathlib.Path(data_dir) / "cifar10.npz").is_file():
        return "the folder of --data_dir has no cifar10.npz"
    missing = [name for name in NEEDED if not is_there(name)]
    return f"not installed: {', '.join(missing)}" if missing else None


def is_there(name: str) -> bool:
    """Whether a module can be found; its package is imported for that."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def as_command(bench: Bench) -> None:
    """`experiments/run.py --exp ldr_cifar`, on one fold with one setting of each loss.

    It is stopped as Ctrl-C would where the epochs that were planned take longer; what it had
    written by then counts.
    """
    data_dir = pathlib.Path(bench.data_dir).resolve()
    with np.load(data_dir / "cifar10.npz") as file:
        sizes = {"train": len(file["y_train"]), "test": len(file["y_test"])}
    planned = epochs_that_fit(bench, sizes)
    network = ["convnet", "--model.width", "4"] if bench.tiny else ["resnet18"]
    command = [sys.executable, str(ROOT / "experiments/run.py"), "--exp", "ldr_cifar"]
    command += ["--dataset", "cifar10", "--data_dir", str(data_dir), "--model", *network]
    command += ["--first_folds", "1", "--learning_rates", "0.1", "--temperatures", "10"]
    command += ["--qs", "0.7", "--batch_size", str(BATCH), "--epochs", str(planned)]
    command += ["--noise_rate", str(NOISE_RATE)]
    if bench.tiny:
        command += ["--train_size", "400"]
    bench.note(command=" ".join(["python", "experiments/run.py", *command[2:]]), planned=planned)
    with tempfile.TemporaryDirectory(prefix="ldr-cifar-") as folder:
        start = time.perf_counter()
        printed = pathlib.Path(folder, "printed.txt")
        with printed.open("w") as file:
            process = subprocess.Popen(
                command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
            code = finish(process, bench.left() - SECONDS_AFTER)
        seconds = time.perf_counter() - start
        rows = [
            json.loads(line)
            for file in pathlib.Path(folder).glob("**/metrics.jsonl")
            for line in file.read_text().splitlines()
        ]
        for row in rows:
            bench.row(**row)
        last = printed.read_text()[-600:] if code else None
        bench.row(
            seconds=seconds, exit_code=code, data=sizes, **({"printed": last} if code else {})
        )


def finish(process: subprocess.Popen, seconds: float) -> int:
    """Waits for a command; interrupts it after so long, and kills it if that is of no use."""
    for stop in (lambda: process.send_signal(signal.SIGINT), process.kill):
        try:
            return process.wait(max(seconds, 1))
        except subprocess.TimeoutExpired:
            stop()
            seconds = SECONDS_AFTER - 5
    return process.wait()


def epochs_that_fit(bench: Bench, sizes: Mapping[str, int]) -> int:
    """By the images per second that section (e) measured, for all four losses."""
    if bench.tiny:
        return 1
    speeds = [
        row["images_per_second"]
        for row in bench.record.rows("e", JAX)
        if row.get("network") == "resnet18"
        and row.get("dtype") == "float32"
        and "images_per_second" in row
    ]
    if not speeds:
        return PAPER_EPOCHS
    # Four of five parts train; the fifth, the probe and the test part are scored.
    passes = 0.8 * sizes["train"]
    passes += SCORED_TO_TRAINED * (0.2 * sizes["train"] + 2000 + sizes["test"])
    of_an_epoch = METHODS * passes / min(speeds)
    left = bench.left() - SECONDS_BEFORE - SECONDS_AFTER
    return int(np.clip(0.8 * left / of_an_epoch, 1, PAPER_EPOCHS))


def alone(bench: Bench) -> None:
    """The same losses and network in a loop of our own, an epoch of each in turn."""
    # A command of its own needs the device that this process would otherwise hold.
    import jax
    import jax.numpy as jnp
    import optax

    from lnl_jax import data, losses, metrics, models, noise, train
    from lnl_jax.data import augment

    splits, source = images(bench, data)
    rng = np.random.default_rng(0)
    matrix = noise.symmetric(splits.num_classes, NOISE_RATE, include_self=True)
    noisy = noise.corrupt(splits.train["label"], matrix, rng).labels
    size, batch = len(noisy), 16 if bench.tiny else BATCH
    bench.note(images=source, generated=splits.generated, training_images=size)
    on_cpu = jax.default_backend() == "cpu"
    model = models.resnet8(10, width=4) if bench.tiny else models.resnet18(splits.num_classes)
    model = model.clone(dtype=jnp.float32 if on_cpu else jnp.bfloat16)
    mean, std = augment.channel_statistics(splits.train["image"])
    variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), jnp.zeros((1, 32, 32, 3)))
    tx = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.05, 0.9))
    functions: dict[str, Callable] = {
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
        "generalized_cross_entropy": losses.generalized_cross_entropy,
        "ldr_kl": lambda scores, labels: losses.ldr_kl(
            losses.softplus_mean_normalize(scores), labels, temperature=10.0, margin=0.1
        ),
        "aldr_kl": lambda scores, labels: losses.aldr_kl(
            losses.l1_mean_normalize(scores), labels, temperature=10.0, margin=0.1
        ),
    }

    def step_of(loss):
        def loss_fn(params, stats, rows, batch, key):
            crop, flip = jax.random.split(key)
            views = augment.random_flip(flip, augment.random_crop(crop, batch["image"]))
            scores, updated = model.apply(
                {"params": params, "batch_stats": stats},
                augment.to_float(views, mean, std),
                train=True,
                mutable=["batch_stats"],
            )
            return loss(scores, batch["label"]), (updated["batch_stats"], rows, {})

        return train.make_train_step(loss_fn, tx)

    training = {"image": splits.train["image"], "label": noisy, "index": np.arange(size)}
    runs = {
        name: train.run_steps(train.gather_batches(step_of(loss), training))
        for name, loss in functions.items()
    }
    start = train.init_state(
        variables["params"], tx, key=jax.random.key(1), extra=variables["batch_stats"]
    )
    states = {name: jax.tree.map(jnp.copy, start) for name in runs}
    # Whole batches only: one program, and no padding in the batch statistics.
    whole = size - size % batch

    def rows_of(epoch):
        order = np.random.default_rng((1, epoch)).permutation(size)[:whole].astype(np.int32)
        return {
            "position": order.reshape(-1, batch),
            "mask": np.ones((whole // batch, batch), bool),
        }

    @jax.jit
    def scored(params, stats, images, labels):
        scores = model.apply(
            {"params": params, "batch_stats": stats}, augment.to_float(images, mean, std)
        )
        return metrics.accuracy(scores, labels).value

    test = {name: jnp.asarray(splits.test[name][:2000]) for name in ("image", "label")}
    epoch, longest = 0, 0.0
    while epoch < (2 if bench.tiny else PAPER_EPOCHS):
        if epoch and bench.left() < 1.3 * longest:
            bench.note(stopped=f"after {epoch} epochs: the time was used up")
            break
        began = time.perf_counter()
        for name, run_epoch in runs.items():
            before = time.perf_counter()
            try:
                states[name], found = run_epoch(states[name], rows_of(epoch))
                loss = float(np.mean(found["loss"]))
            except Exception as error:  # noqa: BLE001
                bench.row(epoch=epoch + 1, method=name, why=reason(error))
                continue
            seconds = time.perf_counter() - before
            state = states[name]
            accuracy = float(scored(state.params, state.extra, test["image"], test["label"]))
            row = {"epoch": epoch + 1, "method": name, "loss": loss, "accuracy": accuracy}
            # The first epoch compiles.
            bench.row(**row, seconds=seconds, images_per_second=whole / seconds if epoch else None)
        epoch += 1
        if epoch != 1:
            longest = max(longest, time.perf_counter() - began)


def images(bench: Bench, data: Any) -> tuple[Any, str]:
    """CIFAR-10 where its file is there, else generated images."""
    try:
        if bench.data_dir and pathlib.Path(bench.data_dir, "cifar10.npz").is_file():
            return data.cifar10(bench.data_dir), "cifar10.npz"
    except Exception as error:  # noqa: BLE001
        bench.note(file_not_read=reason(error))
    train, test = (200, 200) if bench.tiny else (8000, 2000)
    return data.shapes32(num_classes=10, num_train=train, num_test=test), "shapes32, generated"
