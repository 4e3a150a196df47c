"""Robust optimisation over examples and groups against a misleading colour, on digits."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.robust_losses._shared import NUM_COLORS, colored_digits
from lnl_jax import metrics, models, reweighting
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.outcome import curves_figure, results_table
from lnl_jax.comparison.runs import Method
from lnl_jax.comparison.search import search_in_lanes
from lnl_jax.comparison.statistics import grid
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Precision,
    Range,
    Seeds,
    check_batch_size,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_CLASSES = 2
NUM_GROUPS = NUM_CLASSES * NUM_COLORS
MODEL = models.MLP(num_classes=NUM_CLASSES, hidden=(64, 64))
BASELINE = "erm"
# Per epoch, seed and setting: the training loss and accuracies, on test digits but for the last.
METRICS = ("loss", "worst", "accuracy", "aligned", "conflicting", "validation_worst")
COLUMNS = {"worst group %": "worst", "mean of groups %": "accuracy", "aligned %": "aligned"}
COLUMNS |= {"conflicting %": "conflicting"}
PANELS = {"worst group, test accuracy": "worst", "colour agrees with the class": "aligned"}
PyTree = Any
# (losses [B], mask [B]) -> weights [B]
Weigh = Callable[..., jax.Array]


@study
def dro_groups(
    *,
    aligned: Annotated[float, Range(0.5, below=1)] = 0.95,
    seeds: Seeds = 5,
    epochs: Count = 50,
    batch_size: Count = 128,
    learning_rates: tuple[Positive, ...] = (0.1, 0.03),
    fractions: tuple[PositiveShare, ...] = (0.02, 0.05, 0.1, 0.2),
    radii: tuple[NotNegative, ...] = (0.125, 0.25, 0.5, 1.0, 2.0),
    temperatures: tuple[Positive, ...] = (0.1, 0.3, 1.0),
    step_sizes: tuple[NotNegative, ...] = (0.01, 0.03, 0.1, 0.3),
    weight_decay: NotNegative = 5e-3,
    precision: Precision = jnp.float32,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """ERM, CVaR, chi2 ball, KL penalty and group DRO where the background colour misleads.

    Scikit-learn's handwritten digits on a red or a green background; the class is whether the digit
    is at least 5. In training the colour agrees with the class for a fraction `aligned` of the
    examples, so that plain training (ERM) leans on it; in the validation and test part it does not
    depend on the class. Four groups: class by colour. CVaR, chi2 and KL weigh the examples of a
    batch by their losses and know no groups; group DRO knows them. Everything else is shared: a
    tanh network 192-64-64-2, SGD with momentum 0.9, splits, colours, initialisation and order.
    Learning rate and radius are those with the best mean worst-group accuracy on validation, so
    every method is chosen with the groups known; reported is the worst-group accuracy on test after
    the last epoch.

    The question is that of Sagawa et al., "Distributionally Robust Neural Networks for Group
    Shifts" (ICLR 2020), in small:
        python experiments/run.py --exp dro_groups

    Time: about a minute on 2 CPU cores.

    Result: the worst group at 36.5% (ERM), 43.8 (CVaR), 47.2 (chi2), 40.6 (KL), 75.0 (group DRO);
    docs/results/dro_groups, made by commit 6f75179.

    Args:
        aligned: fraction of the training examples whose colour agrees with the class, from 0.5 to
            below 1.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step, over which the weights are computed.
        learning_rates: to choose from.
        fractions: of the batch that CVaR looks at, to choose from.
        radii: of the chi2 ball, to choose from.
        temperatures: of the KL penalty, to choose from.
        step_sizes: of group DRO, to choose from.
        weight_decay: added to the gradient, for all parameters.
        precision: in which the network computes: bfloat16 is for accelerators.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best on validation at that time; a
        checkpoint per epoch; at the end the table `results`, the figure `curves`, the figure
        `examples` and the arrays `history`, a value per metric, epoch, seed and setting.
    """
    model = models.in_dtype(MODEL, precision)
    methods = _methods(model, learning_rates, fractions, radii, temperatures, step_sizes)
    data_sets = [colored_digits(aligned, seed) for seed in range(seeds)]
    training = data_sets[0]["train"]
    check_batch_size(batch_size, len(training["label"]))
    outcome = yield from search_in_lanes(
        methods,
        initial_variables(model, training["x"][:1], range(seeds)),
        data_sets,
        functools.partial(_measure, model),
        epochs=epochs,
        batch_size=batch_size,
        weight_decay=weight_decay,
        resume=resume,
        metrics=METRICS,
        choose=_best,
    )
    yield Artifact("results", results_table(outcome, COLUMNS))
    title = f"digits on coloured backgrounds, {aligned:.0%} aligned in training; {seeds} seeds, "
    figure = curves_figure(outcome, title + "mean ± std", PANELS)
    for panel in figure.axes:
        panel.set_ylim(-2, 102)
    yield Artifact("curves", figure)
    yield Artifact("examples", _examples(data_sets[0]["train"], aligned))
    yield Artifact("history", outcome.arrays)


def _methods(
    model: models.MLP,
    learning_rates: Sequence[float],
    fractions: Sequence[float],
    radii: Sequence[float],
    temperatures: Sequence[float],
    step_sizes: Sequence[float],
) -> list[Method]:
    rates = {"learning_rate": learning_rates}
    uniform = jnp.full(NUM_GROUPS, -np.log(NUM_GROUPS), jnp.float32)
    over_examples = functools.partial(_over_examples, model)
    by_groups = functools.partial(_over_groups, model)
    methods = [
        Method(BASELINE, functools.partial(_erm, model), grid(**rates)),
        Method("cvar", over_examples(reweighting.cvar_weights), grid(**rates, fraction=fractions)),
        Method("chi2", over_examples(reweighting.chi2_ball_weights), grid(**rates, radius=radii)),
        Method(
            "kl",
            over_examples(reweighting.kl_dro_weights),
            grid(**rates, temperature=temperatures),
        ),
        Method("group_dro", by_groups, grid(**rates, step_size=step_sizes), uniform),
    ]
    # Traced once with each setting as a number, where a value out of range still has a name.
    batch = {"x": jnp.zeros((2, 192)), "label": jnp.zeros(2, jnp.int32), "mask": jnp.ones(2, bool)}
    batch |= {"group": batch["label"]}
    params = jax.eval_shape(model.init, jax.random.key(0), batch["x"])
    for method in methods:
        for setting in method.settings:
            loss_fn = functools.partial(method.loss_fn, setting, {})
            with refused(method.name):
                jax.eval_shape(loss_fn, params, method.extra, (), batch, None)
    return methods


def _cross_entropies(model: models.MLP, params: PyTree, batch: Mapping) -> jax.Array:
    logits = model.apply(params, batch["x"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])


def _weighted(values: jax.Array, weights: jax.Array, mask: jax.Array) -> jax.Array:
    """Losses whose mean over the batch is the weighted sum."""
    return values * jax.lax.stop_gradient(mask.sum() * weights)


def _erm(model, setting, known, params, extra, rows, batch, key):
    return _cross_entropies(model, params, batch), (extra, rows, {})


def _over_examples(model: models.MLP, weigh: Weigh) -> Callable:
    """A loss function that weighs the examples of a batch by their losses alone."""

    def loss_fn(setting, known, params, extra, rows, batch, key):
        arguments = {name: value for name, value in setting.items() if name != "learning_rate"}
        values = _cross_entropies(model, params, batch)
        weights = weigh(values, where=batch["mask"], **arguments)
        return _weighted(values, weights, batch["mask"]), (extra, rows, {})

    return loss_fn


def _over_groups(model, setting, known, params, extra, rows, batch, key):
    """Group DRO; the log-weights of the groups are carried along from step to step."""
    values = _cross_entropies(model, params, batch)
    weights, extra = reweighting.group_dro_weights(
        values, batch["group"], extra, step_size=setting["step_size"], where=batch["mask"]
    )
    return _weighted(values, weights, batch["mask"]), (extra, rows, {})


def _measure(model, setting, data_set, state) -> dict[str, jax.Array]:
    """All of `METRICS` but the loss."""
    test = _group_accuracies(model, state.params, data_set["test"])
    validation = _group_accuracies(model, state.params, data_set["validation"])
    is_aligned = np.eye(NUM_COLORS, dtype=bool).ravel()
    return {
        "worst": test.min(),
        "accuracy": test.mean(),
        "aligned": test[is_aligned].mean(),
        "conflicting": test[~is_aligned].mean(),
        "validation_worst": validation.min(),
    }


def _group_accuracies(model: models.MLP, params: PyTree, part: Mapping) -> jax.Array:
    logits = model.apply(params, part["x"])
    return jnp.stack(
        [
            metrics.accuracy(logits, part["label"], where=part["group"] == group).value
            for group in range(NUM_GROUPS)
        ]
    )


def _best(values: np.ndarray) -> int:
    """The setting with the best mean worst-group accuracy on validation."""
    return int(values[METRICS.index("validation_worst")].mean(0).argmax())


def _examples(part: Mapping[str, np.ndarray], aligned: float) -> "Figure":
    """Training images of every group, with its share of the training set."""
    from matplotlib.figure import Figure

    shown, edge = 10, 1
    figure = Figure(figsize=(7, NUM_GROUPS * 1.05), layout="constrained")
    for group, axis in enumerate(figure.subplots(NUM_GROUPS, 1)):
        members = np.flatnonzero(part["group"] == group)
        images = part["x"][members[:shown]].reshape(-1, 8, 8, 3)
        room = np.ones((shown, 8, 8 + edge, 3))
        room[: len(images), :, :8] = images
        axis.imshow(np.hstack(room)[:, :-edge])
        axis.set_axis_off()
        name = "at least 5" if group // NUM_COLORS else "below 5"
        share = len(members) / len(part["group"])
        axis.set_title(f"{name}: {share:.1%} of the training set", loc="left", fontsize=9)
    figure.suptitle(f"training images by class and colour, {aligned:.0%} aligned")
    return figure
