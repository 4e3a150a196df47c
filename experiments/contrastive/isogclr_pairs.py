"""iSogCLR on pairs: the left and the right half of an image find each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    Contrast,
    LearntTemperatures,
    check_contrast,
    check_losses,
    contrastive_trainer,
    contrasts,
    of_pairs,
)
from lnl_jax import contrastive, data, evaluation, models, train
from lnl_jax.comparison.catalogue import IMAGE_SETS
from lnl_jax.comparison.noisy_images import name_of_choice, read_images, some_examples
from lnl_jax.comparison.statistics import mean_and_std, paired_gain
from lnl_jax.comparison.temperatures import histogram_figure
from lnl_jax.comparison.turns import train_in_turns
from lnl_jax.data import augment
from lnl_jax.data.splits import stack
from lnl_jax.runner.arguments import (
    Count,
    Positive,
    PositiveShare,
    Precision,
    Seeds,
    check_batch_size,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

SIDE, EPOCHS_PER_ROW = 8, 10
SIDES = ("first", "second")
PyTree = Any


def _tower() -> models.MLP:
    return models.MLP(num_classes=64, hidden=(256, 128), activation=nn.relu)


MODEL = models.TwoTower(_tower(), _tower())


@study
def isogclr_pairs(
    *,
    dataset: Annotated[Callable | None, IMAGE_SETS] = None,
    train_size: Count | None = None,
    seeds: Seeds = 5,
    epochs: Count = 60,
    batch_size: Count = 128,
    learning_rate: Positive = 2e-3,
    temperature: Positive = 0.1,
    gamma: PositiveShare = 0.8,
    temperatures: LearntTemperatures = LearntTemperatures(0.6, 0.05, 0.9, (0.01, 1.0), 5.0),
    precision: Precision = jnp.float32,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """CLIP's loss, SogCLR and iSogCLR on the left and right halves of images.

    Real pairs that need no download: both halves of an image show one digit in one hand. A tower
    for each half is trained on 80% of scikit-learn's digits, or on the training part of any set of
    images, by Adam with a cosine schedule; the image is moved, and changed in contrast, before it
    is cut, other images as in SimCLR. Reported is how often the right half
    of a held-out image is the first that its left half finds among all held-out ones, and the other
    way round (recall@1). Both sides of each pair have temperatures of their own. Seeds train side
    by side and share split, order and initialisation between the methods.

    Bimodal as in Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised
    Learning with Automatic Temperature Individualization" (ICML 2023), section 5.2. The paper's
    gain is of large sets; no particular order of the methods is expected here:
        python experiments/run.py --exp isogclr_pairs
        python experiments/run.py --exp isogclr_pairs --dataset cifar10 --data_dir DIR

    Time: about two minutes on 2 busy CPU cores.

    Args:
        dataset: of images; none means scikit-learn's digits.
        train_size: keeps that many of the training images, classes in proportion; none keeps all.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: pairs per step.
        learning_rate: of Adam, at the start.
        temperature: of CLIP's loss and SogCLR, and where iSogCLR starts.
        gamma: weight of the newest visit in the moving average.
        temperatures: how iSogCLR learns them.
        precision: in which the network computes: bfloat16 is for accelerators.
        data_dir: a folder with DATASET.npz or a prepared TFDS set.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and ten epochs; a checkpoint as often; at the end the table `results`, the
        figure `temperature_histogram` and the arrays `history`: iSogCLR's final temperatures,
        ``[seeds, N]`` for each half.
    """
    check_contrast(batch_size, (temperature,), temperatures)
    if dataset is None:
        source = "digits"
        parts = stack([_digits(train_size, seed) for seed in range(seeds)])
        view, show = view_of_digits, lambda images: images
    else:
        source = name_of_choice(dataset)
        splits = read_images(dataset, data_dir, train_size, 0)
        source += ", generated" * splits.generated
        parts = stack([{"train": splits.train, "test": splits.test}] * seeds)
        mean, std = augment.channel_statistics(splits.train["image"])
        view = augment.simclr_view

        def show(images):
            return augment.to_float(images, mean, std)

    size = parts["train"]["index"].shape[1]
    check_batch_size(batch_size, size)
    steps_per_epoch = -(-size // batch_size)
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, epochs * steps_per_epoch))
    methods = contrasts(
        temperature=temperature, starts=(temperature,), gamma=gamma, learnt=temperatures
    )
    check_losses(methods, batch_size)
    methods[0] = methods[0]._replace(name="clip")
    example = cut(show(jnp.asarray(parts["train"]["image"][0, :1])))
    model = models.in_dtype(MODEL, precision)
    init = jax.jit(jax.vmap(lambda seed: model.init(jax.random.key(seed), *example)))
    data_sets = parts | {
        "params": init(jnp.arange(seeds)),
        "seed": np.arange(seeds),
        "extra": {},
    }

    def tables(start):
        return {side: contrastive.isogclr_table(size, start) for side in SIDES}

    def embed(params, extra, batch, key):
        towers = model.apply(params, *cut(show(view(key, batch["image"]))))
        return tuple(map(evaluation.unit_rows, towers)), extra

    def measure(state, data_set):
        images = data_set["test"]["image"]
        left, right = map(evaluation.unit_rows, model.apply(state.params, *cut(show(images))))
        own = jnp.arange(len(images))
        return {
            "left to right": (evaluation.retrieval_ranks(left, right, own) < 1).mean(),
            "right to left": (evaluation.retrieval_ranks(right, left, own) < 1).mean(),
            **{side: state.tables[side].values.temperature for side in SIDES},
        }

    def describe(method, measured):
        return {way: float(measured[way].mean()) for way in ("left to right", "right to left")}

    runs = [
        train.in_lanes(
            contrastive_trainer(of_pairs(method, embed), tx, tables, measure),
            np.float32(method.starts),
            data_sets,
        )
        for method in methods
    ]
    _, measured = yield from train_in_turns(
        methods,
        runs,
        describe,
        size=size,
        seeds=range(seeds),
        epochs=epochs,
        batch_size=batch_size,
        every=EPOCHS_PER_ROW,
        resume=resume,
    )
    # Each method has one start.
    measured = [{name: values[:, 0] for name, values in found.items()} for found in measured]
    yield Artifact("results", _results(methods, measured))
    final = {"left": measured[-1]["first"], "right": measured[-1]["second"]}
    title = f"halves of {source}, rho {temperatures.rho:g}"
    yield Artifact("temperature_histogram", histogram_figure(final, title))
    yield Artifact("history", final)


def _digits(train_size: int | None, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Training and test images, uncut: they are moved first."""
    digits = data.digits()
    digits["image"] = digits.pop("x").reshape(-1, SIDE, SIDE, 1)
    train, test = data.hold_out(digits, 0.2, np.random.default_rng(seed))
    train["index"] = np.arange(len(train["index"]), dtype=np.int32)
    splits = some_examples(data.Splits(train, test, 10), train_size, seed)
    return {"train": splits.train, "test": splits.test}


def view_of_digits(key: jax.Array, images: jax.Array) -> jax.Array:
    """Of ``[B, 8, 8, 1]``."""
    return augment.random_affine(key, images[..., 0])[..., None]


def cut(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The left and the right half of images ``[B, H, W, C]``, as vectors."""
    half = images.shape[2] // 2
    return tuple(
        side.reshape(len(images), -1) for side in (images[:, :, :half], images[:, :, half:])
    )


def _results(
    methods: Sequence[Contrast], measured: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
    """A line per method: recall in percent, and the paired gain of the mean of both ways."""
    lines, baseline = [], None
    for method, found in zip(methods, measured, strict=True):
        there, back = (
            100 * np.asarray(found[way], np.float64) for way in ("left to right", "right to left")
        )
        line = {"method": method.name} | mean_and_std(there, "left to right %")
        line |= mean_and_std(back, "right to left %")
        both = (there + back) / 2
        if baseline is None:
            baseline = both
            line |= {"gain": None, "std of gain": None, "gain / its s.e.": None}
        else:
            line |= paired_gain(both, baseline)
        first, second = (found[side] for side in SIDES)
        line |= {"temperature left": float(first.mean()), "temperature right": float(second.mean())}
        lines.append(line)
    return lines
