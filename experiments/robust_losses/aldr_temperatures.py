"""What ALDR-KL's temperature follows: the noise of a label, or the confidence of the network."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import data, metrics, models, train
from lnl_jax.comparison.catalogue import CATALOGUE
from lnl_jax.comparison.joined_runs import make_joined_trainer
from lnl_jax.comparison.methods import adapted_temperatures, robust_loss
from lnl_jax.comparison.networks import (
    Network,
    hidden_widths,
    initial_variables,
    tabular_in_lanes,
)
from lnl_jax.comparison.noisy_folds import RATES, all_noisy_folds
from lnl_jax.comparison.runs import Method
from lnl_jax.comparison.statistics import setting_text, standard_deviation
from lnl_jax.comparison.table_sets import TABLE_SETS, digits, plain_name
from lnl_jax.runner.arguments import (
    Count,
    Folds,
    NotNegative,
    Positive,
    Repetitions,
    StudyError,
    check_batch_size,
    check_names,
    refused,
    study,
)
from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.outputs import Artifact

METHODS = ("aldr_kl_step", "aldr_kl", "cross_entropy")
NOISES = {name: rates for name, rates in RATES.items() if max(rates) > 0}
# Areas under the curve of what tells false labels, the last two of ALDR-KL alone.
AREAS = ("loss", "margin", "unconfident", "temperature")
MEASURED = ("validation_accuracy", "top_1", *AREAS, "follows_confidence")


@study
def aldr_temperatures(
    *,
    dataset: Annotated[Callable, TABLE_SETS] = digits,
    noises: tuple[str, ...] = ("uniform", "class_dependent"),
    folds: Folds = 5,
    seeds: Repetitions = 2,
    epochs: Count = 50,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.01),
    weight_decay: NotNegative = 5e-3,
    data_dir: str | None = None,
) -> Iterator[dict[str, Any] | Artifact]:
    """AUROC of ALDR-KL's temperature against false labels, beside loss, margin and confidence.

    Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML 2023):
    ALDR-KL "automatically adapts the individualized temperature parameter to the noise degree of
    class label of each instance". After a training by the protocol of `ldr_benchmark`, the
    temperature of each training example is compared with what also may tell whether its label is
    false: its cross-entropy, its margin, both of which look at the label, and 1 - max p, which does
    not. The temperature of the paper's Algorithm 1 does not look at the label either; that of the
    exact loss does by the margin alone. `follows_confidence` is the rank correlation of
    temperature and 1 - max p, the mean over training sets.

        python experiments/run.py --exp aldr_temperatures

    Time: about two minutes on 2 CPU cores.

    Result: temperature 0.50 to 0.69, loss 0.77 to 0.995 but at 50% class-dependent noise;
    docs/results/aldr_temperatures.

    Args:
        dataset: of numbers.
        noises: uniform, class_dependent.
        folds: parts of the training set, at least 2.
        seeds: how often the labels are corrupted anew, with all folds each time.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from, with the settings of the losses, on noisy validation labels.
        weight_decay: added to the gradient, for all parameters.
        data_dir: a folder with the data set as npz; none fetches it from OpenML.

    Yields:
        A row per chunk; the table `areas`, a line per noise and method, and `runs.csv`.
    """
    check_names("noises", noises, NOISES)
    with refused():
        splits = dataset(data_dir)
    if splits.given:
        raise StudyError("dataset must have labels of which it is known that they are right.")
    noisy_folds, parts = all_noisy_folds(
        plain_name(dataset), splits.train, splits.test, noises, folds, seeds
    )
    size, columns = parts["train"]["x"].shape[1:]
    check_batch_size(batch_size, size)
    num_classes = parts["known"]["matrix"].shape[-1]
    model = models.LaneMLP(num_classes, hidden_widths(columns, num_classes))
    network, steps = tabular_in_lanes(model), -(-size // batch_size) * epochs
    methods = [
        robust_loss(CATALOGUE[name], learning_rates, network=network, total_steps=steps)
        for name in METHODS
    ]
    streams = [one.seed * folds + one.fold for one in noisy_folds]
    params = initial_variables(model, jnp.zeros((columns, 1)), streams)
    parts |= {"params": jax.tree.map(np.asarray, params), "seed": np.array(streams)}
    trainer, settings = make_joined_trainer(
        methods,
        train.staircase_schedule(steps),
        network,
        functools.partial(_measure, network),
        measure_more={
            method.name: functools.partial(_measure_temperature, method, network)
            for method in methods[:2]
        },
        weight_decay=weight_decay,
    )
    width = sum(len(method.settings) for method in methods)
    found = np.full((len(MEASURED), len(noisy_folds), width), np.nan)
    plan = data.epoch_plans(size, batch_size, streams, keep=epochs)
    devices = train.mesh_at_hand().size
    chunk = devices * -(-min(len(noisy_folds), 4 * devices) // devices)
    for members, measured in train.in_chunks(
        trainer, settings, parts, plan, epochs=epochs, chunk=chunk
    ):
        for row, name in enumerate(MEASURED):
            found[row, members.start : members.stop] = measured[name][:, 0]
        yield {"runs": members.stop * width, "done": members.stop / len(noisy_folds)}
    yield from _tables(methods, noisy_folds, found)


def _measure(network: Network, setting, part, params, stats, rows) -> dict[str, jax.Array]:
    training, held, test = part["train"], part["validation"], part["test"]
    scores, on_held, on_test = (
        network.scores(params, stats, part["known"], own) for own in (training, held, test)
    )
    labels = training["label"]
    false = labels != training["clean_label"]
    own = jnp.take_along_axis(scores, labels[:, None], 1)[:, 0]
    others = jnp.where(jnp.arange(network.num_classes)[None] == labels[:, None], -jnp.inf, scores)
    signs = {
        "loss": optax.softmax_cross_entropy_with_integer_labels(scores, labels),
        "margin": others.max(1) - own,
        "unconfident": -jax.nn.softmax(scores).max(1),
    }
    return {
        "validation_accuracy": metrics.accuracy(on_held, held["label"]).value,
        "top_1": metrics.accuracy(on_test, test["label"]).value,
    } | {name: metrics.auroc(values, false) for name, values in signs.items()}


def _measure_temperature(
    method: Method, network: Network, setting, part, params, stats, rows
) -> dict[str, jax.Array]:
    training = part["train"]
    scores = network.scores(params, stats, part["known"], training)
    if method.initial_rows is None:
        rows = adapted_temperatures(method, setting, scores, training["label"])
    false = training["label"] != training["clean_label"]
    ranks = [jax.scipy.stats.rankdata(values) for values in (rows, -jax.nn.softmax(scores).max(1))]
    return {
        "temperature": metrics.auroc(rows, false),
        "follows_confidence": jnp.corrcoef(*ranks)[0, 1],
    }


def _tables(methods: Sequence[Method], noisy_folds, found: np.ndarray) -> Iterator[Artifact]:
    """What validation chose of each method in each noise, and all runs."""
    lines, runs = [], []
    names = [(method.name, one) for method in methods for one in method.settings]
    for noise, rate in dict.fromkeys((one.noise, one.rate) for one in noisy_folds):
        members = [
            at for at, one in enumerate(noisy_folds) if (one.noise, one.rate) == (noise, rate)
        ]
        for method in methods:
            own = [at for at, (name, _) in enumerate(names) if name == method.name]
            validation = np.nan_to_num(found[0][np.ix_(members, own)]).mean(0)
            best = own[int(validation.argmax())]
            line = {"noise": noise, "rate": rate, "method": method.name}
            line["setting"] = setting_text(names[best][1])
            for row, name in enumerate(MEASURED[1:], 1):
                values = found[row, members, best]
                if np.isfinite(values).all():
                    line |= {name: values.mean(), f"std of {name}": standard_deviation(values)}
            lines.append(line)
    for at, one in enumerate(noisy_folds):
        for number, (name, setting) in enumerate(names):
            row = one._asdict() | {"method": name, "setting": setting_text(setting)}
            values = zip(MEASURED, found[:, at, number], strict=True)
            runs.append(row | {key: round(float(value), 5) for key, value in values})
    yield Artifact("areas", lines)
    yield Artifact("runs.csv", csv_bytes(runs))
