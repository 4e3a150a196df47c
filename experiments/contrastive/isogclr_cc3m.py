"""iSogCLR on images and captions: CLIP's loss, SogCLR and iSogCLR on a folder of shards."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    AdamW,
    LearntTemperatures,
    Reading,
    check_contrast,
    check_losses,
    contrasts,
    of_pairs,
)
from lnl_jax import contrastive, data, models, train
from lnl_jax.comparison.captions import (
    IMAGE_TOWERS,
    Pairs,
    Text,
    embed_pairs,
    encode_pairs,
    recalls,
    resnet50,
    split_pairs,
)
from lnl_jax.comparison.runs import skipped_of, steps_at_once
from lnl_jax.comparison.temperatures import captions_table, histogram_figure, neighbours_figure
from lnl_jax.runner.arguments import (
    Count,
    Positive,
    PositiveShare,
    Precision,
    Seed,
    Size,
    StudyError,
    check_batch_size,
    check_network,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

PyTree = Any
SIDES = ("first", "second")
MEASURED = ("image to text", "text to image", "temperature")
# Images among which the figure looks for neighbours, and captions of the table at either end.
SHOWN, CAPTIONS = 1000, 8


@study
def isogclr_cc3m(
    *,
    image_tower: Annotated[Callable, IMAGE_TOWERS] = resnet50,
    image_size: Size = 224,
    embed_dim: Size = 256,
    text: Text = Text(),
    test_pairs: Count = 1000,
    seed: Seed = 0,
    epochs: Count = 30,
    batch_size: Count = 512,
    adamw: AdamW = AdamW(),
    temperature: Positive = 0.01,
    gamma: PositiveShare = 0.8,
    temperatures: LearntTemperatures = LearntTemperatures(6.0, 0.03, 0.9, (0.005, 1.0), 5.0),
    precision: Precision = jnp.float32,
    reading: Reading = Reading(),
    shard_tables: bool = False,
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
            --image_size 32 --text.width 64 --text.depth 2 --batch_size 64 \
            --temperatures.rho 3 --test_pairs 50

    Time: an accelerator; minutes of a CPU for some hundred pairs.

    Args:
        image_tower: a new one.
        image_size: rows and columns.
        embed_dim: of the common space.
        text: the text tower and its words.
        test_pairs: held out.
        seed: of the split, the initialisation and the order.
        epochs: passes over the training pairs.
        batch_size: pairs per step.
        adamw: the optimiser.
        temperature: of CLIP's loss and SogCLR, and where iSogCLR starts.
        gamma: weight of the newest visit in the moving average.
        temperatures: how iSogCLR learns them; rho is less than the logarithm of the batch size.
        precision: in which the network computes: bfloat16 is for accelerators.
        reading: of the folder.
        shard_tables: whether the tables of temperatures are split over the devices, as batches are.
        data_dir: the folder.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and epoch; checkpoints, also within an epoch; at the end the tables
        `results` and `captions`, those of lowest and highest temperature, the figures
        `temperature_histogram` and `neighbours`, and the arrays `history`: iSogCLR's final
        temperatures, ``[N]`` for images and captions, in the order of the folder without the
        held-out pairs.
    """
    check_contrast(batch_size, (temperature,), temperatures)
    if data_dir is None:
        raise StudyError("isogclr_cc3m reads pairs from a folder: give --data_dir DIR.")
    with refused():
        pairs = data.image_text(
            data_dir, image_size=image_size, skip_unreadable=reading.skip_unreadable
        )
        pairs, broken = data.readable(pairs, **reading._asdict())
    if skipped := pairs.skipped + broken:
        yield Artifact("skipped", [{"skipped": line} for line in skipped])
    ids = text.ids(pairs.caption)
    training, test = split_pairs(pairs, ids, test_pairs, seed)
    with refused("image_tower"):
        # The end has the greatest id, in CLIP's vocabulary too.
        words = text.tower(embed_dim, int(ids.max()) + 1)
        model = models.CLIP(image_tower(embed_dim, image_size), words)
    model = models.in_dtype(model, precision)
    size = len(training.pairs.caption)
    check_batch_size(batch_size, size)
    steps = -(-size // batch_size) * epochs
    tx = optax.adamw(
        optax.warmup_cosine_decay_schedule(
            1e-5, adamw.learning_rate, min(adamw.warmup_steps, steps // 10), steps, 1e-5
        ),
        weight_decay=adamw.weight_decay,
    )
    methods = contrasts(
        temperature=temperature, starts=(temperature,), gamma=gamma, learnt=temperatures
    )
    check_losses(methods, batch_size)
    methods[0] = methods[0]._replace(name="clip")
    example = jnp.zeros((1, image_size, image_size, 3)), jnp.asarray(ids[:1])
    check_network("image_tower with text", lambda: model.init(jax.random.key(0), *example))
    variables = jax.jit(model.init)(jax.random.key(seed, impl="rbg"), *example)
    embed = embed_pairs(model, padded=size % batch_size > 0)
    start = train.init_state(
        variables["params"],
        tx,
        key=jax.random.key(seed),
        extra=variables.get("batch_stats", {}),
        tables={side: contrastive.isogclr_table(size, temperature) for side in SIDES},
    )
    start = train.with_spare_rows(start) if shard_tables else start
    steps_of = {one.name: train.make_train_step(of_pairs(one, embed), tx) for one in methods}

    # Their programs differ, so each state carries the name of its method.
    def step(state, batch):
        ((name, inner),) = state.items()
        inner, found = steps_of[name](inner, batch)
        return {name: inner}, found

    mesh = train.batch_mesh(batch_size, local=True, split_tables=shard_tables)
    encode = encode_pairs(model)

    def measure(states):
        inner = [state[method.name] for method, state in zip(methods, states, strict=True)]
        found = [
            recalls(*encode(one, test, batch_size, reading.num_threads))
            | {"temperature": _mean_temperature(one, size)}
            for one in inner
        ]
        return {name: np.array([each[name] for each in found]) for name in found[0]}

    def plan(epoch):
        return data.epoch_plan(size, batch_size, np.random.default_rng((seed, epoch)))

    # All methods take a step on a batch, which is decoded once.
    run = train.dispatch_in_turn(train.data_parallel(step, mesh, split_tables=shard_tables))

    def run_steps(states, rows):
        return run(states, data.stream(training.arrays, rows, num_threads=reading.num_threads))

    runs = train.Runs([{method.name: start} for method in methods], run_steps, measure)
    begin = train.SoFar(0, [train.no_sums("loss", shape=(len(methods),))])
    states, so_far = resume.restore((runs.state, begin))
    last = resume.rows[-1] if resume.rows else {"epoch": 0, "examples": 0}
    examples = last["examples"]
    order = {"epochs": epochs, "finished": last["epoch"]}
    order |= {"steps_at_once": steps_at_once(len(methods)), "so_far": so_far}
    for epoch, found, (states,) in train.fit_together([runs], [states], plan, **order):  # noqa: B020
        if isinstance(found, train.SoFar):
            yield Checkpoint((states, found))
            continue
        for index, method in enumerate(methods):
            examples += size
            row = {"epoch": epoch, "method": method.name}
            row |= {name: float(found[0][name][index]) for name in ("loss", *MEASURED)}
            yield row | {"examples": examples} | skipped_of(found[0], index)
        yield Checkpoint((states, begin))
    found = measure(states)
    lines = [
        {"method": method.name, "training pairs": size, "test pairs": test_pairs}
        | {f"{name} %": 100 * float(found[name][index]) for name in MEASURED[:2]}
        | {"mean temperature": float(found["temperature"][index])}
        for index, method in enumerate(methods)
    ]
    yield Artifact("results", lines)
    state = states[-1][methods[-1].name]
    given = (training, batch_size, reading.num_threads, temperatures.rho)
    yield from _artifacts(state, encode, *given)


def _mean_temperature(state: PyTree, size: int) -> float:
    """Of all pairs, without spare rows."""
    found = [np.mean(table.values.temperature[:size]) for table in state.tables.values()]
    return float(np.mean(found))


def _artifacts(
    state: PyTree, encode: Callable, training: Pairs, batch_size: int, num_threads: int, rho: float
) -> Iterator[Artifact]:
    """What the temperatures of iSogCLR say."""
    size = len(training.pairs.caption)
    image, caption = (np.asarray(state.tables[side].values.temperature)[:size] for side in SIDES)
    title = f"{len(image)} pairs, rho {rho:g}"
    yield Artifact("captions", captions_table(caption, training.pairs.caption, CAPTIONS))
    both = {"images": image, "captions": caption}
    yield Artifact("temperature_histogram", histogram_figure(both, title))
    rows = np.sort(np.random.default_rng(0).permutation(len(image))[:SHOWN])
    arrays = {name: training.arrays[name][rows] for name in ("image", "ids", "index")}
    shown = Pairs(training.pairs.take(rows), arrays)
    near, _ = encode(state, shown, batch_size, num_threads)
    grid = neighbours_figure(arrays["image"], np.asarray(near), image[rows], title)
    yield Artifact("neighbours", grid)
    yield Artifact("history", both)
