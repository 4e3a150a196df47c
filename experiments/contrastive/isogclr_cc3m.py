"""iSogCLR on images and captions: CLIP's loss, SogCLR and iSogCLR on a folder of shards."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    Contrast,
    Embed,
    check_contrast,
    check_losses,
    contrasts,
    new_table,
    of_pairs,
    unit,
)
from lnl_jax import data, evaluation, models, train
from lnl_jax.comparison.temperatures import histogram_figure, neighbours_figure
from lnl_jax.data import augment
from lnl_jax.data.preprocess import CLIP_MEAN, CLIP_STD
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Seed,
    Size,
    StudyError,
    Threads,
    Whole,
    check_batch_size,
    check_network,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

PyTree = Any
SIDES = ("first", "second")
# Images among which the figure looks for neighbours, and captions of the table at either end.
SHOWN, CAPTIONS = 1000, 8


def resnet50(embed_dim: int, image_size: int, *, width: int = 64) -> models.ModifiedResNet:
    """CLIP's ResNet-50; the image size is a multiple of 32."""
    return models.ModifiedResNet(embed_dim, image_size, width=width)


def vit(
    embed_dim: int,
    image_size: int,
    *,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    patch_size: int = 4,
) -> models.ViT:
    """A small transformer; the image size is a multiple of the patch size."""
    del image_size
    return models.vit(embed_dim, width=width, depth=depth, heads=heads, patch_size=patch_size)


IMAGE_TOWERS: dict[str, Callable] = {"resnet50": resnet50, "vit": vit}


class Side(NamedTuple):
    """What the methods are trained or tested on.

    Attributes:
        pairs: images and captions.
        arrays: ``image``, ``ids`` and ``index``, for `data.stream`.
    """

    pairs: data.ImageText
    arrays: Mapping[str, Any]


@study
def isogclr_cc3m(
    *,
    image_tower: Annotated[Callable, IMAGE_TOWERS] = resnet50,
    image_size: Size = 224,
    embed_dim: Size = 256,
    text_width: Size = 512,
    text_depth: Size = 12,
    context_length: Size = 32,
    vocabulary: str | None = None,
    max_words: Count = 20_000,
    test_pairs: Count = 1000,
    seed: Seed = 0,
    epochs: Count = 30,
    batch_size: Count = 512,
    learning_rate: Positive = 2e-4,
    warmup_steps: Whole = 2000,
    weight_decay: NotNegative = 0.02,
    temperature: Positive = 0.01,
    rho: NotNegative = 6.0,
    gamma: PositiveShare = 0.8,
    temperature_step: NotNegative = 0.03,
    temperature_momentum: PositiveShare = 0.9,
    temperature_clip: Positive = 5.0,
    temperature_range: tuple[Positive, ...] = (0.005, 1.0),
    num_threads: Threads = 4,
    skip_unreadable: bool = False,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """CLIP's loss, SogCLR and iSogCLR on images and their captions, streamed from a folder.

    The folder has tar shards as img2dataset writes them (KEY.jpg with KEY.txt), or a .tsv of paths
    and captions; see `lnl_jax.data.image_text`. Both towers start from random numbers, where the
    paper has pretrained ones (ResNet-50 on ImageNet, DistilBERT): its numbers are not to be
    expected. Batch, schedule, temperatures and rho are those of the official code: AdamW, from 1e-5
    up to the learning rate and down again along a cosine, 30 epochs. Images are cropped to at least
    half of their area and mirrored. Each image and each caption has a temperature of its own. The
    methods share the batches, which are decoded once. Reported is recall@1 both ways among
    held-out pairs.

    Bimodal as in Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised
    Learning with Automatic Temperature Individualization" (ICML 2023), section 5.2. With millions
    of pairs a matter of an accelerator; on a folder of some hundred, minutes on a CPU:
        python experiments/run.py --exp isogclr_cc3m --data_dir DIR
        python experiments/run.py --exp isogclr_cc3m --data_dir DIR --image_tower vit \
            --image_size 32 --text_width 64 --text_depth 2 --batch_size 64 --rho 3 --test_pairs 50

    Time: an accelerator; minutes of a CPU for some hundred pairs.

    Args:
        image_tower: a new one.
        image_size: rows and columns.
        embed_dim: of the common space.
        text_width: of the tokens of the text tower.
        text_depth: its blocks.
        context_length: the longest caption, in tokens.
        vocabulary: a folder with CLIP's tokenizer.json, or vocab.json and merges.txt; none makes a
            vocabulary of the words of the captions.
        max_words: in that case, the most frequent ones.
        test_pairs: held out.
        seed: of the split, the initialisation and the order.
        epochs: passes over the training pairs.
        batch_size: pairs per step.
        learning_rate: of AdamW, at its height.
        warmup_steps: in which it rises, cut to a tenth of all steps.
        weight_decay: of AdamW.
        temperature: of CLIP's loss and SogCLR, and where iSogCLR starts.
        rho: radius of the KL ball; less than the logarithm of the batch size.
        gamma: weight of the newest visit in the moving average.
        temperature_step: of the temperatures' descent.
        temperature_momentum: weight of the newest gradient of a temperature.
        temperature_clip: bound of that gradient.
        temperature_range: lowest and highest temperature.
        num_threads: that decode.
        skip_unreadable: what is no whole pair, and images that cannot be decoded, are left out,
            counted and named in the table `skipped`; for that every image is decoded once at the
            start. Otherwise one is an error: at the start in a folder of at most 20,000 images,
            else when it is drawn.
        data_dir: the folder.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and epoch; a checkpoint per epoch; at the end the tables `results` and
        `captions`, those of lowest and highest temperature, the figures `temperature_histogram`
        and `neighbours`, and the arrays `history`: iSogCLR's final temperatures, ``[N]`` for
        images and captions, in the order of the folder without the held-out pairs.
    """
    check_contrast(batch_size, (temperature,), temperature_range)
    if data_dir is None:
        raise StudyError("isogclr_cc3m reads pairs from a folder: give --data_dir DIR.")
    with refused():
        pairs = data.image_text(data_dir, image_size=image_size, skip_unreadable=skip_unreadable)
        pairs, broken = data.readable(
            pairs, skip_unreadable=skip_unreadable, num_threads=num_threads
        )
    if skipped := pairs.skipped + broken:
        yield Artifact("skipped", [{"skipped": line} for line in skipped])
    if vocabulary is None:
        tokenize, _ = models.word_tokenizer(
            pairs.caption, context_length=context_length, max_words=max_words
        )
    else:
        with refused("vocabulary"):
            tokenize = models.load_tokenizer(vocabulary, context_length=context_length)
    ids = tokenize(pairs.caption)
    training, test = _split(pairs, ids, test_pairs, seed)
    text = models.TextTower(
        embed_dim,
        # The end has the greatest id, in CLIP's vocabulary too.
        vocabulary=int(ids.max()) + 1,
        context_length=context_length,
        width=text_width,
        depth=text_depth,
        heads=max(text_width // 64, 1),
    )
    with refused("image_tower"):
        model = models.CLIP(image_tower(embed_dim, image_size), text)
    size = len(training.pairs.caption)
    check_batch_size(batch_size, size)
    steps = -(-size // batch_size) * epochs
    tx = optax.adamw(
        optax.warmup_cosine_decay_schedule(
            1e-5, learning_rate, min(warmup_steps, steps // 10), steps, 1e-5
        ),
        weight_decay=weight_decay,
    )
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
    example = jnp.zeros((1, image_size, image_size, 3)), jnp.asarray(ids[:1])
    check_network("image_tower with text_width", lambda: model.init(jax.random.key(0), *example))
    variables = jax.jit(model.init)(jax.random.key(seed, impl="rbg"), *example)
    embed = embedding(model, padded=size % batch_size > 0)
    start = train.init_state(
        variables["params"],
        tx,
        key=jax.random.key(seed),
        extra=variables.get("batch_stats", {}),
        tables={side: new_table(size, temperature) for side in SIDES},
    )
    train_steps = [
        jax.jit(train.make_train_step(of_pairs(method, embed), tx), donate_argnums=0)
        for method in methods
    ]
    encode = jax.jit(lambda state, batch: _encoded(model, state, batch))
    states = resume.restore([start for _ in methods])
    states = [jax.tree.map(jnp.copy, state) for state in states]
    examples = resume.rows[-1]["examples"] if resume.rows else 0
    for epoch in range(int(states[-1].step) * epochs // steps, epochs):
        plan = data.epoch_plan(size, batch_size, np.random.default_rng((seed, epoch)))
        losses: list[list] = [[] for _ in methods]
        for batch in data.stream(training.arrays, plan, num_threads=num_threads):
            for index, step in enumerate(train_steps):
                states[index], found = step(states[index], batch)
                losses[index].append(found["loss"])
        for method, state, values in zip(methods, states, losses, strict=True):
            examples += size
            row = {"epoch": epoch + 1, "method": method.name, "loss": float(np.mean(values))}
            row |= recalls(encode, state, test, batch_size, num_threads)
            yield row | {"temperature": _mean_temperature(state), "examples": examples}
        yield Checkpoint(states)
    lines = [
        {"method": method.name, "training pairs": size, "test pairs": test_pairs}
        | {f"{name} %": 100 * value for name, value in found.items()}
        | {"mean temperature": _mean_temperature(state)}
        for method, state in zip(methods, states, strict=True)
        for found in [recalls(encode, state, test, batch_size, num_threads)]
    ]
    yield Artifact("results", lines)
    yield from _artifacts(methods, states, encode, training, batch_size, num_threads, rho)


def _split(pairs: data.ImageText, ids: np.ndarray, test_pairs: int, seed: int) -> tuple[Side, Side]:
    """The training pairs, in their order, and the held-out ones."""
    size = len(pairs.caption)
    if test_pairs > size - 2:
        raise StudyError(
            f"test_pairs must be from 1 to {size - 2}, as the folder has {size} pairs; got "
            f"{test_pairs}."
        )
    order = np.random.default_rng(seed).permutation(size)
    sides = []
    for rows in (np.sort(order[test_pairs:]), np.sort(order[:test_pairs])):
        some = pairs.take(rows)
        index = np.arange(len(rows), dtype=np.int32)
        sides.append(Side(some, {"image": some.image, "ids": ids[rows], "index": index}))
    return sides[0], sides[1]


def embedding(model: models.CLIP, *, padded: bool) -> Embed:
    """Embeddings of cropped and mirrored images and of their captions, and new batch statistics.

    Args:
        model: of both towers.
        padded: whether batches have padding, which must not enter the batch statistics.
    """

    def embed(params, stats, batch, key):
        crop, flip = jax.random.split(key)
        images = augment.random_resized_crop(crop, batch["image"], scale=(0.5, 1.0))
        images = _standardized(augment.random_flip(flip, images))
        (image, text, _), updated = model.apply(
            {"params": params, "batch_stats": stats},
            images,
            batch["ids"],
            train=True,
            mask=batch["mask"] if padded else None,
            mutable=["batch_stats"],
        )
        return (unit(image), unit(text)), updated.get("batch_stats", stats)

    return embed


def recalls(
    encode: Callable, state: PyTree, test: Side, batch_size: int, num_threads: int
) -> dict[str, float]:
    """How often the first of all held-out images is that of the caption, and the other way."""
    image, text = _embeddings(encode, state, test, batch_size, num_threads)
    own = jnp.arange(len(image))
    return {
        "image to text": float((evaluation.retrieval_ranks(image, text, own) < 1).mean()),
        "text to image": float((evaluation.retrieval_ranks(text, image, own) < 1).mean()),
    }


def _standardized(images: jax.Array) -> jax.Array:
    return augment.to_float(images, jnp.asarray(CLIP_MEAN), jnp.asarray(CLIP_STD))


def _encoded(model: models.CLIP, state: PyTree, batch: Mapping) -> tuple[jax.Array, jax.Array]:
    variables = {"params": state.params, "batch_stats": state.extra}
    image, text, _ = model.apply(variables, _standardized(batch["image"]), batch["ids"])
    return unit(image), unit(text)


def _embeddings(
    encode: Callable, state: PyTree, side: Side, batch_size: int, num_threads: int
) -> tuple[jax.Array, jax.Array]:
    """Of unit norm, ``[N, D]`` each, in the order of the side."""
    size = len(side.pairs.caption)
    plan = data.epoch_plan(size, batch_size)
    found = [
        encode(state, batch) for batch in data.stream(side.arrays, plan, num_threads=num_threads)
    ]
    image, text = (jnp.concatenate(parts)[:size] for parts in zip(*found, strict=True))
    return image, text


def _mean_temperature(state: PyTree) -> float:
    return float(np.mean([np.mean(table.values.temperature) for table in state.tables.values()]))


def _artifacts(
    methods: Sequence[Contrast],
    states: Sequence[PyTree],
    encode: Callable,
    training: Side,
    batch_size: int,
    num_threads: int,
    rho: float,
) -> Iterator[Artifact]:
    """What the temperatures of the last method, iSogCLR, say."""
    tables = states[-1].tables
    image, caption = (np.asarray(tables[side].values.temperature) for side in SIDES)
    title = f"{len(image)} pairs, rho {rho:g}"
    yield Artifact("captions", _captions(caption, training.pairs.caption))
    both = {"images": image, "captions": caption}
    yield Artifact("temperature_histogram", histogram_figure(both, title))
    rows = np.sort(np.random.default_rng(0).permutation(len(image))[:SHOWN])
    arrays = {name: training.arrays[name][rows] for name in ("image", "ids", "index")}
    shown = Side(training.pairs.take(rows), arrays)
    near, _ = _embeddings(encode, states[-1], shown, batch_size, num_threads)
    grid = neighbours_figure(arrays["image"], np.asarray(near), image[rows], title)
    yield Artifact("neighbours", grid)
    yield Artifact("history", both)


def _captions(temperatures: np.ndarray, captions: Sequence[str]) -> list[dict[str, Any]]:
    """The captions of lowest and of highest temperature."""
    order = np.argsort(temperatures)
    count = min(CAPTIONS, len(order) // 2)
    return [
        {"temperature": float(temperatures[row]), "caption": captions[row]}
        for row in (*order[:count], *order[-count:])
    ]
