"""Foundations and projectors in the space of frozen features: contrastive heads, linear heads."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import contrastive, data, evaluation, metrics, models, train
from lnl_jax.comparison.feature_heads import HeadPlan, head_data, head_methods, linear_head
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.runs import make_trainer, stack_settings
from lnl_jax.comparison.statistics import setting_text
from lnl_jax.data.splits import stack

SIDES = ("first", "second")


def contrastive_heads(
    x: np.ndarray,
    shown: tuple[np.ndarray, np.ndarray, np.ndarray],
    names: np.ndarray,
    learnt: tuple[float, float | None],
    epochs: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Linear heads for images and texts, trained by CLIP's loss or iSogCLR with Adam.

    Args:
        x: features, training rows before others, ``[N + T, P]``.
        shown: features of the training images, ``[N, P]``, of all texts, ``[M, E]``, and the text
            of each training image, ``[N]``.
        names: the text of each class, ``[K]``.
        learnt: the temperature, where iSogCLR's start, and its rho; None is CLIP's loss.
        epochs: passes over the training part.
        batch_size: pairs per step.

    Returns:
        ``x``, what the head makes of the features, centred, ``[N + T, P]``; ``names``, the
        probability of each class by its text alone, ``[N + T, K]``.
    """
    image, text, captions_of = shown
    temperature, rho = learnt
    size, width = image.shape
    head = functools.partial(models.MLP, num_classes=width, hidden=())
    model = models.TwoTower(head(), head())
    params = model.init(jax.random.key(0), x[:1], text[:1])
    tx = optax.adam(optax.cosine_decay_schedule(2e-3, epochs * -(-size // batch_size)))
    tables = {side: contrastive.isogclr_table(size, temperature) for side in SIDES}
    moving = contrastive.Temperatures(rho or 0.0, 0.02, 0.9, (0.01, 1.0), 5.0)

    def loss(queries, keys, rows, where):
        if rho is None:
            values = contrastive.info_nce(queries, keys, temperature=temperature, where=where)
            return values, rows
        values, rows, _ = contrastive.isogclr(
            queries, keys, rows, gamma=0.8, temperatures=moving, where=where
        )
        return values, rows

    def loss_fn(params, extra, rows, batch, key):
        both = model.apply(params, batch["x"], jnp.asarray(text)[batch["caption"]])
        first, second = map(evaluation.unit_rows, both)
        there, rows_first = loss(first, second, rows["first"], batch["mask"][None])
        back, rows_second = loss(second, first, rows["second"], batch["mask"][None])
        return (there + back) / 2, (
            extra,
            dict(zip(SIDES, (rows_first, rows_second), strict=True)),
            {},
        )

    step = train.make_train_step(loss_fn, tx)
    trainer = train.Trainer(
        lambda _, data_set: train.init_state(
            params, tx, key=jax.random.key(0), extra={}, tables=tables
        ),
        lambda _, data_set, state, batch: step(state, batch),
        lambda _, data_set, state: {
            "params": state.params,
            "temperature": state.tables["second"].values.temperature.mean(),
        },
    )
    part = {"x": image, "caption": captions_of, "index": np.arange(size, dtype=np.int32)}
    runs = train.in_lanes(trainer, np.zeros(1, np.float32), stack([{"train": part}]))
    measured = trained(runs, data.epoch_plans(size, batch_size, [0]), epochs)
    last = jax.tree.map(lambda leaf: leaf[0, 0], measured)
    made, words = map(evaluation.unit_rows, model.apply(last["params"], x, text))
    scores = np.asarray(made @ words[names].T) / last["temperature"]
    made = np.asarray(made)
    centred = made - made[:size].mean(0)
    return {
        "x": centred / np.sqrt(np.square(centred[:size]).mean()),
        "names": np.asarray(jax.nn.softmax(scores)),
    }


def trained(runs: train.Runs, plan: Callable, epochs: int) -> dict[str, Any]:
    """What is measured after so many epochs of a plan of `data.epoch_plans`."""
    state = runs.state
    for epoch in range(epochs):
        state, _ = runs.run_steps(state, plan(epoch))
    return runs.measure(state)


def chosen_projectors(
    x: np.ndarray,
    labels: tuple[np.ndarray, np.ndarray, int],
    losses: Sequence[str],
    plan: HeadPlan,
    validation: float,
    seeds: int,
) -> dict[str, dict[str, Any]]:
    """Linear heads on several sets of features, each at the setting that validation chooses.

    Args:
        x: F sets of features of the same rows, one after the other, ``[F * (N + T), P]``.
        labels: those given, ``[N]``, those of the T test rows, and how many classes there are.
        losses: of `LOSSES`, beside cross-entropy with its best weight decay, which is first.
        plan: how they are trained.
        validation: the share of the N rows that validates, by given labels.
        seeds: of splits and trainings.

    Returns:
        By loss a dict of ``validation`` and ``test`` accuracy, ``[F, seeds]``, ``probabilities`` of
        the N rows, ``[F, seeds, N, K]``, and what was ``chosen``, F texts.
    """
    given, test, num_classes = labels
    sets = len(x) // (len(given) + len(test))
    size, total = len(given), len(given) + len(test)
    model, network = linear_head(num_classes)
    data_sets = []
    for start in range(0, len(x), total):
        for seed in range(seeds):
            one = head_data(given, None, num_classes, validation, seed)
            one["test"] = {"row": np.arange(size, total, dtype=np.int32), "label": test}
            one["all"] = {"row": np.arange(size, dtype=np.int32)}
            for part in ("train", "validation", "probe", "test", "all"):
                one[part]["row"] = one[part]["row"] + np.int32(start)
            data_sets.append(one)
    streams = [each["seed"] for each in data_sets]
    params = initial_variables(model, jnp.zeros((x.shape[1], 1)), streams)
    training = len(data_sets[0]["train"]["row"])
    schedule = train.staircase_schedule(-(-training // plan.batch_size) * plan.epochs)

    def measure(setting, data_set, state):
        def scores(part):
            known = data_set["known"]
            return network.scores(state.params, state.extra[1], known, data_set[part])

        held = {
            part: metrics.accuracy(scores(part), data_set[part]["label"]).value
            for part in ("validation", "test")
        }
        return held | {"probabilities": jax.nn.softmax(scores("all"))}

    found = {}
    regularized, _, *others = head_methods(losses, network, plan, training)
    for head in (regularized, *others):
        own = stack(data_sets) | {"params": head.prepare(params)}
        settings = head.method.settings
        trainer = make_trainer(head.method, schedule, measure)
        runs = train.in_lanes(trainer, stack_settings(settings), own, shared={"shared": {"x": x}})
        order = data.epoch_plans(training, plan.batch_size, streams)
        measured = trained(runs, order, plan.epochs)
        measured = {
            name: one.reshape(sets, seeds, *one.shape[1:]) for name, one in measured.items()
        }
        best = measured["validation"].mean(1).argmax(-1)
        chosen = {
            name: np.stack([one[at, :, place] for at, place in enumerate(best)])
            for name, one in measured.items()
        }
        found[head.method.name] = chosen | {"chosen": [setting_text(settings[i]) for i in best]}
    return found
