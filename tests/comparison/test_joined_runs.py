import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import comparison, data, metrics, models, train
from lnl_jax.comparison.catalogue import CATALOGUE
from lnl_jax.comparison.joined_runs import make_joined_trainer
from lnl_jax.comparison.methods import robust_loss
from lnl_jax.comparison.networks import tabular_in_lanes
from lnl_jax.comparison.runs import make_trainer, stack_settings

EPOCHS, SIZE, BATCH = 3, 37, 8
SEEDS = (3, 4)
# The last rate makes the mean squared gap of scores overflow: a run that diverges.
RATES = (0.1, 1e30)
NAMES = ("truncated_generalized_cross_entropy", "sop_step", "aldr_kl_step")


def problem(names):
    rng = np.random.default_rng(0)
    model = models.LaneMLP(num_classes=4, hidden=(6,))
    network = tabular_in_lanes(model)
    params = comparison.initial_variables(model, np.zeros((5, 1), np.float32), SEEDS)
    labels = rng.integers(0, 4, (2, SIZE)).astype(np.int32)
    rows = {"x": rng.normal(size=(2, SIZE, 5)).astype(np.float32), "label": labels}
    parts = {"train": rows | {"index": np.tile(np.arange(SIZE, dtype=np.int32), (2, 1))}}
    parts |= {"params": jax.tree.map(np.asarray, params), "seed": np.array(SEEDS)}
    steps = -(-SIZE // BATCH) * EPOCHS
    methods = [
        robust_loss(CATALOGUE[name].function, RATES, network=network, total_steps=steps)
        for name in names
    ]
    return network, methods, parts, train.staircase_schedule(steps)


def accuracy_and_norm(network, part, params, stats):
    scores = network.scores(params, stats, {}, part["train"])
    return {
        "accuracy": metrics.accuracy(scores, part["train"]["label"]).value,
        "norm": jnp.square(params["params"]["_LaneDense_1"]["kernel"]).sum(),
    }


def trained(trainer, settings, parts):
    plan = data.epoch_plans(SIZE, BATCH, SEEDS)
    mesh = train.data_mesh(1)
    chunks = train.in_chunks(trainer, settings, parts, plan, epochs=EPOCHS, chunk=2, mesh=mesh)
    ((_, found),) = chunks
    return found


def test_joined_runs_end_as_each_would_alone():
    network, methods, parts, schedule = problem(NAMES)

    def measure(setting, part, params, stats, rows):
        return accuracy_and_norm(network, part, params, stats)

    def own_rows(setting, part, params, stats, rows):
        return {"row": rows.sum() + setting["temperature"]}

    trainer, settings = make_joined_trainer(
        methods, schedule, network, measure, measure_more={"aldr_kl_step": own_rows}
    )
    joined = trained(trainer, settings, parts)
    first = 0
    for method in methods:

        def measure_alone(setting, part, state, method=method):
            found = accuracy_and_norm(network, part, state.params, ())
            if method.name == "aldr_kl_step":
                found["row"] = state.tables.values.sum() + setting["temperature"]
            return found

        alone = trained(
            make_trainer(method, schedule, measure_alone), stack_settings(method.settings), parts
        )
        last = first + len(method.settings)
        for name, values in alone.items():
            np.testing.assert_allclose(joined[name][:, 0, first:last], values, rtol=2e-4)
        first = last
    # Some diverged, and the others did not.
    finite = np.isfinite(joined["norm"][0, 0])
    assert finite.any()
    assert not finite.all()
    # What only one method has is not known of the others.
    assert np.isnan(joined["row"][..., : -len(methods[-1].settings)]).all()


def test_runs_of_different_numbers_of_views_are_not_joined():
    network, methods, _, schedule = problem(("cross_entropy", "generalized_jensen_shannon"))
    with pytest.raises(ValueError, match="of as many views each, got"):
        make_joined_trainer(methods, schedule, network, dict)
