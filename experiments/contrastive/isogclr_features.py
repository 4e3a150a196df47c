"""Linear heads on long-tailed features of images and texts, trained by contrast."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contrastive._shared import (
    Contrast,
    LearntTemperatures,
    contrasts,
    of_pairs,
)
from lnl_jax import contrastive, data, evaluation, models, train
from lnl_jax.comparison.captioned_features import captions, cifar100_with_groups, draw_pairs
from lnl_jax.comparison.class_retrieval import (
    TO_CLASS,
    probe_ranks,
    results_table,
    retrieval_pairs,
    retrieval_ranks,
    retrieval_table,
)
from lnl_jax.comparison.feature_heads import principal_features
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.comparison.runs import stack_settings
from lnl_jax.comparison.statistics import grid, setting_text
from lnl_jax.comparison.table_sets import digits
from lnl_jax.comparison.temperatures import by_size_figure
from lnl_jax.comparison.tower_features import read_features
from lnl_jax.comparison.turns import train_in_turns
from lnl_jax.data.splits import stack
from lnl_jax.runner import (
    Artifact,
    Checkpoint,
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Resume,
    Seeds,
    StudyError,
    Whole,
    refused,
    study,
)
from lnl_jax.runner.arguments import check_batch_size, check_once

SETS: dict[str, Callable] = {"digits": digits, "cifar10": data.cifar10} | OWN_SETS
SETS["cifar100"] = cifar100_with_groups
SIDES, TURNS = ("first", "second"), 10


class Steps(NamedTuple):
    """How iSogCLR's temperatures move; see `contrastive.Temperatures`.

    Attributes:
        start: of all temperatures.
        step: of their descent.
        momentum: weight of the newest gradient of a temperature.
        range: lowest and highest temperature.
        clip: bound of that gradient.
    """

    start: Positive = 0.1
    step: NotNegative = 0.02
    momentum: PositiveShare = 0.9
    range: tuple[Positive, ...] = (0.01, 1.0)
    clip: Positive = 5.0


@study
def isogclr_features(
    *,
    dataset: Annotated[Callable, SETS] = digits,
    imbalance: PositiveShare | None = 0.02,
    templates: tuple[str, ...] = ("a photo of a {name}", "a {name} among {group}"),
    temperatures: tuple[Positive, ...] = (0.05, 0.1, 0.2, 0.5),
    rhos: tuple[Positive, ...] = (0.1, 0.3, 1.0, 1.5, 2.0, 3.0),
    learnt: Steps = Steps(),
    gamma: PositiveShare = 0.8,
    width: Whole = 256,
    embedding: Count = 128,
    seeds: Seeds = 5,
    epochs: Count = 60,
    batch_size: Count = 256,
    learning_rate: Positive = 2e-3,
    sentences: str | None = None,
    tower: str | None = None,
    pixels: Count = 224,
    features: str | None = None,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """CLIP's loss, SogCLR and iSogCLR on image-text features whose classes are of unlike sizes.

    Features of images, by a pretrained tower or your own, and of captions that name the class of
    the image, by an encoder of sentences or by counting words, stay as they are; a linear head for
    each is trained by Adam with a cosine schedule. Class k of a random order keeps a share of
    ``imbalance ** (k / (K - 1))`` of as many images as the smallest class has; each image draws one
    caption. Then the text of each class, and of each group of classes, finds test images, and they
    find it. All temperatures, rhos and seeds of a method train at once, and share draws, order and
    initialisation. Logistic regression on the same features, classes weighted alike or not, stands
    beside; nothing is chosen: every setting has its row.

    Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
    Automatic Temperature Individualization" (ICML 2023), section 5.2 and figure 1: frequent
    semantics get higher temperatures. Without any pretrained weights, and on CIFAR-100:
        python experiments/run.py --exp isogclr_features
        python experiments/run.py --exp isogclr_features --dataset cifar100 --data_dir DIR \
            --tower efficientnet-lite0.safetensors --features features.npz --sentences MINILM

    Time: about a minute of a CPU core with two seeds, on digits or on kept features of CIFAR-100.

    Result: temperatures follow class sizes, the tail gains nothing; docs/results/isogclr_features.

    Args:
        dataset: digits, cifar10, cifar100, or your own: csv, folder, npz, tfds. An npz may hold
            class_names [K], or features of texts, class_text [K, E] or text_train [N, E]; and
            class_groups [K] with group_names [G] or group_text [G, E].
        imbalance: size of the smallest class over that of the largest; none keeps all rows.
        templates: captions, with {name} for the class and {group} for its group, where there are
            any.
        temperatures: of CLIP's loss and SogCLR, a run each.
        rhos: of iSogCLR, a run each; below the log of the batch size.
        learnt: how iSogCLR learns temperatures.
        gamma: weight of the newest visit in the moving average.
        width: principal axes of the images' features; 0 keeps all columns.
        embedding: width of what the heads give.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training part.
        batch_size: pairs per step.
        learning_rate: of Adam, at the start.
        sentences: a folder with an encoder of sentences; none counts words.
        tower: a file of EfficientNet-Lite0, for images.
        pixels: rows and columns that the tower sees.
        features: an .npz file that keeps what the tower makes of the images; none keeps nothing.
        data_dir: the folder of the data set.
        resume: where an interrupted run goes on.

    Yields:
        A row per method and tenth of the training; a checkpoint as often; at the end the tables
        `results`, of accuracy by class size and of temperatures, and `retrieval`, the figure
        `temperature_by_size`, and the arrays `history`: final temperatures of the images, ``[seeds,
        rhos, N]``, and labels, ``[seeds, N]``.
    """
    _check(batch_size, temperatures, rhos, learnt)
    with refused():
        splits = dataset(data_dir)
        texts = captions(splits, templates, sentences)
        columns = read_features(splits, tower, pixels, features)
    count, num_classes = len(splits.train["label"]), splits.num_classes
    x = principal_features(columns, count, width or None)
    parts = [draw_pairs(splits.train["label"], texts, imbalance, seed) for seed in range(seeds)]
    size = len(parts[0]["label"])
    check_batch_size(batch_size, size)
    model = models.TwoTower(*(models.MLP(num_classes=embedding, hidden=()) for _ in SIDES))
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, epochs * -(-size // batch_size)))
    example = jnp.asarray(x[:1]), jnp.asarray(texts.text[:1])
    init = jax.jit(jax.vmap(lambda seed: model.init(jax.random.key(seed), *example)))
    numbers = np.arange(seeds)
    data_sets = {"train": stack(parts), "params": init(numbers), "seed": numbers}
    test = {"x": x[count:], **retrieval_pairs(splits.test["label"], texts)}
    shared = {"x": x[:count], "text": texts.text, "test": test}

    def trainer(place):
        def start(setting, data_set):
            tables = {
                side: contrastive.isogclr_table(size, setting["temperature"]) for side in SIDES
            }
            key = jax.random.key(data_set["seed"])
            return train.init_state(data_set["params"], tx, key=key, extra={}, tables=tables)

        def step(setting, data_set, state, batch):
            def embed(params, extra, batch, key):
                image, text = data_set["x"][batch["row"]], data_set["text"][batch["caption"]]
                return tuple(map(evaluation.unit_rows, model.apply(params, image, text))), extra

            moving = LearntTemperatures(setting["rho"], *learnt[1:])
            # Of CLIP's loss and SogCLR the temperature is that of the rows, which stays.
            loss = contrasts(temperature=None, starts=(), gamma=gamma, learnt=moving)[place]
            return train.make_train_step(of_pairs(loss, embed), tx)(state, batch)

        def measure(setting, data_set, state):
            held, text = data_set["test"], data_set["text"]
            image, text = map(evaluation.unit_rows, model.apply(state.params, held["x"], text))
            found = retrieval_ranks(image, text, held)
            return found | {side: state.tables[side].values.temperature for side in SIDES}

        return train.Trainer(start, step, measure)

    fixed, moved = grid(temperature=temperatures), grid(temperature=[learnt.start], rho=rhos)
    all_settings = {"clip": fixed, "sogclr": fixed, "isogclr": moved}
    runs = []
    for place, settings in enumerate(all_settings.values()):
        stacked = stack_settings([{"rho": 0.0} | setting for setting in settings])
        runs.append(train.in_lanes(trainer(place), stacked, data_sets, shared=shared))

    def describe(method, measured):
        return {"accuracy": float((measured[TO_CLASS] == 0).mean(-1).mean(0).max())}

    order = {"size": size, "seeds": range(seeds), "epochs": epochs, "batch_size": batch_size}
    _, measured = yield from train_in_turns(
        [Contrast(name, None, ()) for name in all_settings],
        runs,
        describe,
        **order,
        every=-(-epochs // TURNS),
        resume=resume,
    )
    labels = data_sets["train"]["label"]
    found = {
        (name, text_of(setting)): {key: values[:, at] for key, values in one.items()}
        for (name, settings), one in zip(all_settings.items(), measured, strict=True)
        for at, setting in enumerate(settings)
    }
    yield Artifact("retrieval", retrieval_table(found))
    found |= probe_ranks(x, data_sets["train"], test, num_classes)
    yield Artifact("results", results_table(found, labels, test["label"], num_classes))
    learnt_ones = {text: one["first"] for (name, text), one in found.items() if name == "isogclr"}
    title = f"{size} images, {num_classes} classes, {seeds} seeds"
    yield Artifact("temperature_by_size", by_size_figure(learnt_ones, labels, num_classes, title))
    history = np.stack([*learnt_ones.values()], 1)
    yield Artifact("history", {"temperatures": history, "labels": labels})


def _check(batch_size, temperatures, rhos, learnt) -> None:
    check_once("temperatures", temperatures)
    check_once("rhos", rhos)
    bounds = learnt.range
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise StudyError(f"learnt.range must be two rising numbers, got {bounds}.")
    if not bounds[0] <= learnt.start <= bounds[1]:
        raise StudyError(
            f"learnt.start must be from {bounds[0]} to {bounds[1]}, the range, got {learnt.start}."
        )
    most = np.log(max(batch_size - 1, 1))
    if max(rhos) >= most:
        raise StudyError(
            f"rhos must be below {most:.3g}, the log of a batch's negatives, got {max(rhos):g}."
        )


def text_of(setting: Mapping[str, float]) -> str:
    """The temperature, or the rho where there is one."""
    name = [*setting][-1]
    return setting_text({name: setting[name]})
