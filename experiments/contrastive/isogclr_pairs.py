"""iSogCLR on pairs: the left and the right half of an image find each other."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    SIDE,
    Contrast,
    check_contrast,
    check_losses,
    contrasts,
    make_runs,
    new_table,
    of_pairs,
    random_view,
    train_in_turns,
    unit,
)
from lnl_jax import data, evaluation, models
from lnl_jax.comparison.catalogue import IMAGE_SETS
from lnl_jax.comparison.images import name_of_choice, read_images, some_examples
from lnl_jax.comparison.statistics import mean_and_std, paired_gain
from lnl_jax.comparison.temperatures import histogram_figure
from lnl_jax.data import augment
from lnl_jax.data.splits import stack
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Seeds,
    check_batch_size,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

EPOCHS_PER_ROW = 10
PyTree = Any
# (key, images [B, H, W, C]) -> images of another crop and contrast
View = Callable[[jax.Array, jax.Array], jax.Array]


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
    rho: NotNegative = 0.6,
    gamma: PositiveShare = 0.8,
    temperature_step: NotNegative = 0.05,
    temperature_momentum: PositiveShare = 0.9,
    temperature_clip: Positive = 5.0,
    temperature_range: tuple[Positive, ...] = (0.01, 1.0),
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
        rho: radius of the KL ball.
        gamma: weight of the newest visit in the moving average.
        temperature_step: of the temperatures' descent.
        temperature_momentum: weight of the newest gradient of a temperature.
        temperature_clip: bound of that gradient.
        temperature_range: lowest and highest temperature.
        data_dir: a folder with DATASET.npz or a prepared TFDS set.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and ten epochs; a checkpoint as often; at the end the table `results`, the
        figure `temperature_histogram` and the arrays `history`: iSogCLR's final temperatures,
        ``[seeds, N]`` for each half.
    """
    check_contrast(batch_size, (temperature,), temperature_range)
    if dataset is None:
        source = "digits"
        parts = stack([_digits(train_size, seed) for seed in range(seeds)])
        view, show = random_view_of_digits, lambda images: images
    else:
        source = name_of_choice(dataset)
        splits = some_examples(read_images(dataset, data_dir), train_size, 0)
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
        temperature=temperature,
        starts=(temperature,),
        rho=rho,
        gamma=gamma,
        temperature_step=temperature_step,
        temperature_momentum=temperature_momentum,
        temperature_clip=temperature_clip,
        temperature_range=temperature_range,
    )
    check_losses(methods, batch_size)
    methods[0] = methods[0]._replace(name="clip")
    example = cut(show(jnp.asarray(parts["train"]["image"][0, :1])))
    init = jax.jit(jax.vmap(lambda seed: MODEL.init(jax.random.key(seed), *example)))
    params = init(jnp.arange(seeds))

    def tables(start):
        return {side: new_table(size, start) for side in ("first", "second")}

    def embed(params, extra, batch, key):
        towers = MODEL.apply(params, *cut(show(view(key, batch["image"]))))
        return tuple(unit(embeddings) for embeddings in towers), extra

    recalls = jax.jit(functools.partial(_recalls, show))
    runs = [
        make_runs(method, of_pairs(method, embed), tx, params, parts["train"], tables, range(seeds))
        for method in methods
    ]

    def describe(method, state):
        there, back = recalls(state.params, parts["test"])
        return {"left to right": float(there.mean()), "right to left": float(back.mean())}

    states = yield from train_in_turns(
        methods,
        runs,
        describe,
        shape=(seeds, size),
        epochs=epochs,
        batch_size=batch_size,
        every=EPOCHS_PER_ROW,
        resume=resume,
    )
    yield Artifact("results", _results(methods, states, recalls, parts["test"]))
    final = {
        name: np.asarray(table.values.temperature[0]) for name, table in states[-1].tables.items()
    }
    final = {"left": final["first"], "right": final["second"]}
    title = f"halves of {source}, rho {rho:g}"
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


def random_view_of_digits(key: jax.Array, images: jax.Array) -> jax.Array:
    """`random_view` of ``[B, 8, 8, 1]``."""
    return random_view(key, images.reshape(len(images), -1)).reshape(images.shape)


def cut(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The left and the right half of images ``[B, H, W, C]``, as vectors."""
    half = images.shape[2] // 2
    return tuple(
        side.reshape(len(images), -1) for side in (images[:, :, :half], images[:, :, half:])
    )


def _recalls(
    show: Callable, params: PyTree, test: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Recall@1 from left to right and from right to left, ``[starts, seeds]``."""

    def of_one(params, images):
        left, right = (unit(embeddings) for embeddings in MODEL.apply(params, *cut(show(images))))
        own = jnp.arange(len(images))
        there = evaluation.retrieval_ranks(left, right, own)
        back = evaluation.retrieval_ranks(right, left, own)
        return (there < 1).mean(), (back < 1).mean()

    return jax.vmap(jax.vmap(of_one), (0, None))(params, test["image"])


def _results(
    methods: Sequence[Contrast],
    states: Sequence[PyTree],
    recalls: Callable,
    test: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """A line per method: recall in percent, and the paired gain of the mean of both ways."""
    lines, baseline = [], None
    for method, state in zip(methods, states, strict=True):
        there, back = (
            100 * np.asarray(recall[0], np.float64) for recall in recalls(state.params, test)
        )
        line = {"method": method.name} | mean_and_std(there, "left to right %")
        line |= mean_and_std(back, "right to left %")
        both = (there + back) / 2
        if baseline is None:
            baseline = both
            line |= {"gain": None, "std of gain": None, "gain / its s.e.": None}
        else:
            line |= paired_gain(both, baseline)
        first, second = (state.tables[side].values.temperature for side in ("first", "second"))
        line |= {"temperature left": float(first.mean()), "temperature right": float(second.mean())}
        lines.append(line)
    return lines
