"""A grid of contrastive trainings: batch size, temperature, imbalance, and choosing unseen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import contrastive, data, evaluation, models, train
from lnl_jax.comparison import choosers, representations
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.runs import memory_note, stack_settings
from lnl_jax.comparison.statistics import grid as combinations
from lnl_jax.comparison.table_sets import TABLE_SETS, digits, plain_name
from lnl_jax.comparison.viewed_tables import FeatureViews, held_out_parts, viewed_table
from lnl_jax.data.splits import stack
from lnl_jax.runner import Artifact, StudyError, refused, stage
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Range,
    Seeds,
    Whole,
    check_batch_size,
    check_once,
    study,
)

MODEL = models.ProjectedEncoder(
    models.MLP(num_classes=16, hidden=(128,), activation=jax.nn.relu),
    models.MLP(num_classes=32, hidden=(64,), activation=jax.nn.relu),
)
RANGE, MEASURED = (0.05, 1.0), 256
BatchSize = Annotated[int, Range(2, 65_536)]


class Grid(NamedTuple):
    """What is tried.

    Attributes:
        temperatures: of SimCLR and SogCLR, and where iSogCLR starts.
        gammas: weights of the newest visit in the moving averages of SogCLR and iSogCLR.
        rhos: of iSogCLR.
    """

    temperatures: tuple[Positive, ...] = (0.05, 0.1, 0.2, 0.5, 1.0)
    gammas: tuple[PositiveShare, ...] = (0.3, 0.8)
    rhos: tuple[NotNegative, ...] = (0.2, 0.8)


@study
def contrastive_choice(
    *,
    dataset: Annotated[Callable, TABLE_SETS] = digits,
    width: Whole = 128,
    views: FeatureViews = FeatureViews(),
    largest: Count = 100,
    held_out: Count = 70,
    imbalance: PositiveShare = 0.1,
    imbalances: tuple[PositiveShare, ...] = (1.0, 0.1, 0.01),
    batch_size: BatchSize = 64,
    batch_sizes: tuple[BatchSize, ...] = (8, 16, 32, 64, 128),
    grid: Grid = Grid(),
    temperature_step: NotNegative = 0.1,
    seeds: Seeds = 5,
    epochs: Count = 40,
    learning_rate: Positive = 2e-3,
    data_dir: str | None = None,
) -> Iterator[dict[str, Any] | Artifact]:
    """SimCLR, SogCLR and iSogCLR over a grid: which claims of theirs are seen on a small scale.

    Every temperature (or start), gamma and rho is trained with each batch size, and with each
    imbalance at one of them, all settings and seeds of a cell at once. Classes shrink in an order
    that is drawn. Views of digits are random affine maps, those of features, on their principal
    axes, hold noise. Epochs are the same for all batch sizes, the learning rate goes with the
    square root. A linear probe on the encoder weighs all classes alike; of the balanced held-out
    examples half validate, half test. All is paired by seed.

    Yuan et al., "Provable Stochastic Optimization for Global Contrastive Learning: Small Batch Does
    Not Harm Performance" (ICML 2022): SogCLR needs no large batch. Qiu et al., "Not All Semantics
    are Created Equal" (ICML 2023): iSogCLR gains on long tails, and its start does not matter.
    Garrido et al., "RankMe" (ICML 2023): the rank of embeddings chooses about as well as labels:
        python experiments/run.py --exp contrastive_choice
        python experiments/run.py --exp contrastive_choice --dataset npz --dataset.name features \
            --data_dir DIR --batch_sizes 8,64,256 --held_out 400 --epochs 30

    Time: nine minutes of a CPU core for 1,225 trainings of digits.

    Result: hardly a claim is seen; docs/results/contrastive_choice, made by commit c1fc2a0.

    Args:
        dataset: digits, another table of numbers, or your own: csv, npz, tfds.
        width: principal axes of tables other than digits; 0 keeps the columns.
        views: of them.
        largest: training examples of the largest class.
        held_out: examples of each class that validate or test.
        imbalance: smallest class over largest, at which batch sizes are compared.
        imbalances: those that are compared.
        batch_size: at which imbalances are compared.
        batch_sizes: those that are compared.
        grid: what is tried of each method.
        temperature_step: of iSogCLR's temperatures.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        learning_rate: of Adam at `batch_size`, at the start of its cosine.
        data_dir: the folder of the data set.

    Yields:
        A row per cell and method; tables `results`, a line for each, `spread` over temperatures,
        `choosers` and `runs`, a line per cell and setting; the figures `claims` and `regret`.
    """
    lists = {f"grid.{name}": values for name, values in grid._asdict().items()}
    for each in (lists | {"batch_sizes": batch_sizes, "imbalances": imbalances}).items():
        check_once(*each)
    if not all(RANGE[0] <= one <= RANGE[1] for one in grid.temperatures):
        raise StudyError(f"grid.temperatures must be from {RANGE[0]} to {RANGE[1]}.")
    settings = _settings(grid, temperature_step)
    at = {"batch size": [(size, imbalance) for size in batch_sizes]}
    at["imbalance"] = [(batch_size, each) for each in imbalances]
    wanted = list(dict.fromkeys([(batch_size, imbalance), *at["batch size"], *at["imbalance"]]))
    with refused():
        pool, num_classes, view = viewed_table(dataset, data_dir, width, views)
        kept = {"num_classes": num_classes, "largest": largest, "test_per_class": held_out}
        parts = {
            each: stack([held_out_parts(pool, each, seed, kept) for seed in range(seeds)])
            for each in {each for _, each in wanted}
        }
    for size, each in wanted:
        check_batch_size(size, parts[each]["train"]["label"].shape[1], "batch_sizes")
    cells = choosers.Cells(settings, {}, ("batch size", "imbalance"))
    for number, (size, each) in enumerate(wanted):
        cells.found[size, each] = yield from stage(
            f"batch {size}, imbalance {each:g}",
            _train,
            settings,
            parts[each],
            view,
            num_classes=num_classes,
            batch_size=size,
            epochs=epochs,
            learning_rate=learning_rate * (size / batch_size) ** 0.5,
        )
        for method in cells.methods:
            row = {"cell": number + 1, "batch size": size, "imbalance": each, "method": method}
            yield row | {"accuracy": float(cells.of((size, each), method)["test"].mean() / 100)}
    yield Artifact("results", choosers.method_table(cells, "temperature"))
    yield Artifact("spread", choosers.spread_table(cells, "temperature"))
    yield Artifact("choosers", choosers.chooser_table(cells, representations.LABEL_FREE))
    yield Artifact("runs", choosers.run_table(cells))
    about = f"{plain_name(dataset)}: {len(settings) * len(wanted) * seeds} trainings, {seeds} seeds"
    yield Artifact("claims", choosers.bands_figure(_claims(cells, at, wanted[0]), about))
    panels = choosers.regret_panels(cells, representations.LABEL_FREE)
    yield Artifact("regret", choosers.bands_figure(panels, about))


def _claims(
    cells: choosers.Cells, at: Mapping[str, Sequence[tuple]], base: tuple[int, float]
) -> list[choosers.Bands]:
    """Small batches; temperatures and starts; imbalance."""
    sizes, imbalances = at.values()
    starts, means = choosers.along_curves(cells, base, "temperature")
    chosen = choosers.chosen_curves(cells, sizes, gain=False)
    gains = choosers.chosen_curves(cells, imbalances, gain=True)
    known, gained = "accuracy %, chosen by validation", f"gain over {cells.methods[0]}, points"
    others, Panel = "accuracy %, mean over other settings", choosers.Bands
    return [
        Panel(f"batch size, imbalance {base[1]:g}", known, [str(n) for n, _ in sizes], chosen),
        Panel(f"temperature or start, batches of {base[0]}", others, starts, means),
        Panel(f"imbalance, batches of {base[0]}", gained, [f"{x:g}" for _, x in imbalances], gains),
    ]


def _settings(tried: Grid, step: float) -> list[dict[str, Any]]:
    """Every method with its hyperparameters; the temperatures of a method vary slowest."""
    plain = {"average": 0.0, "gamma": 1.0, "rho": 0.0, "step": 0.0}
    averaged = {"temperature": tried.temperatures, "gamma": tried.gammas, "average": [1.0]}
    each = {
        "simclr": combinations(temperature=tried.temperatures),
        "sogclr": combinations(**averaged),
        "isogclr": combinations(**averaged, rho=tried.rhos, step=[step]),
    }
    return [{"method": name} | plain | one for name, many in each.items() for one in many]


def _train(
    settings: Sequence[Mapping],
    parts: Mapping[str, Any],
    view: Callable,
    *,
    num_classes: int,
    batch_size: int,
    epochs: int,
    learning_rate: float,
) -> Iterator[Any]:
    """Trains all settings and seeds of a cell at once; what is measured, ``[seeds, settings]``."""
    seeds, size = parts["train"]["label"].shape
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, epochs * -(-size // batch_size)))
    params = initial_variables(MODEL, parts["train"]["x"][0, :1], range(seeds))

    def embed(params, key, x):
        pair = jnp.concatenate([view(one, x) for one in jax.random.split(key)])
        return evaluation.unit_rows(MODEL.apply(params, pair)[1]).reshape(2, len(x), -1)

    def start(setting, data_set):
        key = jax.random.key(data_set["seed"])
        tables = contrastive.isogclr_table(size, setting["temperature"])
        return train.init_state(data_set["params"], tx, key=key, tables=tables)

    def step(setting, data_set, state, batch):
        # With a step of 0 a temperature stays, which makes SogCLR of iSogCLR.
        learnt = contrastive.Temperatures(setting["rho"], setting["step"], 0.9, RANGE)

        def loss_fn(params, extra, rows, batch, key):
            both, where = embed(params, key, batch["x"]), jnp.tile(batch["mask"], 2)[None]
            statistics = contrastive.contrastive_statistics(
                both, both, temperature=rows.temperature, where=where
            )
            values, moved, _ = contrastive.isogclr_from_statistics(
                statistics, rows, gamma=setting["gamma"], temperatures=learnt
            )
            simclr = contrastive.info_nce_from_statistics(statistics)
            return jnp.where(setting["average"] == 1, values, simclr), (extra, moved, {})

        return train.make_train_step(loss_fn, tx)(state, batch)

    def measure(setting, data_set, state):
        found = [
            (MODEL.apply(state.params, data_set[name]["x"])[0], data_set[name]["label"])
            for name in ("train", "validation", "test")
        ]
        accuracy = representations.balanced_probe_accuracy(*found, num_classes=num_classes)
        unseen = representations.label_free_scores(
            found[0][0][:MEASURED],
            *embed(state.params, jax.random.key(0), data_set["train"]["x"][:MEASURED]),
        )
        unseen["temperature"] = state.tables.values.temperature.mean()
        return dict(zip(("validation", "test"), accuracy, strict=True)) | unseen

    plans = [data.epoch_plans(size, batch_size, range(seeds))(epoch) for epoch in range(epochs)]
    rows = jax.tree.map(lambda *each: np.concatenate(each), *plans)
    numbers = stack_settings([{k: v for k, v in one.items() if k != "method"} for one in settings])
    data_sets = {**parts, "params": params, "seed": np.arange(seeds)}
    runs = train.in_lanes(train.Trainer(start, step, measure), numbers, data_sets)
    yield from memory_note([runs], rows)
    return runs.measure(runs.run_steps(runs.state, rows)[0])
