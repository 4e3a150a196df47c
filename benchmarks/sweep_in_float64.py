"""Whether the lockstep runs of `ldr_benchmark` are right: the same runs, alone and in float64.

python benchmarks/sweep_in_float64.py FOLDER [--data_dir DIR] [--losses ...] [--json FILE]

FOLDER is a finished run of `ldr_benchmark`. The settings that validation chose there are trained
again one at a time, in float64, with the examples in rows and not in lanes, on the same splits,
noise, initial parameters and order. Prints the mean and standard deviation over the runs of both,
and their difference in those deviations, which the rounding of float32 must not exceed by far:
trajectories part, distributions must not.
"""

import argparse
import csv
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, metrics, models, train
from lnl_jax.comparison.catalogue import CATALOGUE
from lnl_jax.comparison.methods import measure, robust_loss
from lnl_jax.comparison.networks import hidden_widths, initial_variables, tabular
from lnl_jax.comparison.noisy_folds import all_noisy_folds
from lnl_jax.comparison.runs import make_trainer
from lnl_jax.comparison.statistics import setting_text
from lnl_jax.comparison.table_sets import TABLE_SETS

LOSSES = ("cross_entropy", "generalized_cross_entropy", "ldr_kl", "aldr_kl_step")


def main():
    """Trains and compares."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--data_dir")
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    arguments = json.loads((options.folder / "config.json").read_text())["arguments"]
    splits = TABLE_SETS[arguments["dataset"]](options.data_dir)
    noisy_folds, parts = all_noisy_folds(
        arguments["dataset"],
        splits.train,
        splits.test,
        arguments["noises"],
        arguments["folds"],
        arguments["seeds"],
    )
    rows = []
    for name in options.losses:
        run = one_at_a_time(name, arguments, noisy_folds, parts)
        for chosen in chosen_of(options.folder, name):
            members = [
                at
                for at, fold in enumerate(noisy_folds)
                if (fold.noise, fold.rate) == (chosen["noise"], float(chosen["rate"]))
            ]
            alone = 100 * np.array([run(chosen, member) for member in members])
            lockstep = 100 * np.array(accuracies(options.folder, chosen))
            rows.append(report(chosen, lockstep, alone))
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def report(chosen, lockstep, alone):
    """Means over the folds in percent, and how far they are apart."""
    deviation = lockstep.std(ddof=1)
    return {
        "loss": chosen["loss"],
        "noise": f"{chosen['noise']} {chosen['rate']}",
        "setting": f"{chosen['setting']} lr {chosen['learning_rate']}".strip(),
        "lockstep, float32": [round(lockstep.mean(), 2), round(deviation, 2)],
        "alone, float64": [round(alone.mean(), 2), round(alone.std(ddof=1), 2)],
        "deviations apart": round(abs(lockstep.mean() - alone.mean()) / deviation, 2),
    }


def chosen_of(folder, name):
    """The chosen settings of a loss, clean and at 60% uniform noise."""
    with open(folder / "chosen.csv") as file:
        for row in csv.DictReader(file):
            if row["loss"] == name and (row["noise"], row["rate"]) in CONDITIONS:
                yield row


def accuracies(folder, chosen):
    """The test accuracies of the lockstep runs of a setting, fold by fold."""
    keys = ("noise", "rate", "loss", "setting", "learning_rate")
    with open(folder / "runs.csv") as file:
        rows = list(csv.DictReader(file))
    return [float(row["top_1"]) for row in rows if all(row[key] == chosen[key] for key in keys)]


CONDITIONS = (("clean", "0.0"), ("uniform", "0.6"))


def one_at_a_time(name, arguments, noisy_folds, parts):
    """``(chosen, data set) -> test accuracy`` of one training in float64."""
    size, columns = parts["train"]["x"].shape[1:]
    num_classes = parts["known"]["matrix"].shape[-1]
    hidden = hidden_widths(columns, num_classes)
    streams = [one.seed * arguments["folds"] + one.fold for one in noisy_folds]
    model = models.MLP(num_classes=num_classes, hidden=hidden)
    lanes = models.LaneMLP(num_classes=num_classes, hidden=hidden)
    params = rows_of_lanes(initial_variables(lanes, jnp.zeros((columns, 1)), streams))
    total_steps = -(-size // arguments["batch_size"]) * arguments["epochs"]
    method = robust_loss(
        CATALOGUE[name].function,
        arguments["learning_rates"],
        network=tabular(model),
        total_steps=total_steps,
    )
    trainer = make_trainer(
        method,
        train.staircase_schedule(total_steps),
        functools.partial(measure, tabular(model)),
        weight_decay=arguments["weight_decay"],
    )
    own = in_float64(dict(parts) | {"seed": np.array(streams), "params": params})
    plan = data.epoch_plans(
        size,
        arguments["batch_size"],
        streams,
        shuffle=arguments["shuffle"],
        keep=arguments["epochs"],
    )

    @jax.jit
    def epoch(setting, part, state, rows):
        def one(state, rows):
            batch = {name: values[rows["position"]] for name, values in part["train"].items()}
            return trainer.step(setting, part, state, batch | {"mask": rows["mask"]})[0], None

        return jax.lax.scan(one, state, rows)[0]

    def run(chosen, data_set):
        setting = in_float64(matching(method, chosen))
        part = jax.tree.map(lambda values: jnp.asarray(values[data_set]), own)
        state = trainer.start(setting, part)
        for number in range(arguments["epochs"]):
            rows = {name: values[:, data_set] for name, values in plan(number).items()}
            state = epoch(setting, part, state, rows)
        scores = model.apply(state.params, part["test"]["x"])
        return float(metrics.accuracy(scores, part["test"]["label"]).value)

    return run


def matching(method, chosen):
    """The setting that a row of chosen.csv describes."""
    for setting in method.settings:
        searched = {key: value for key, value in setting.items() if key != "learning_rate"}
        if (setting_text(searched), setting["learning_rate"]) == (
            chosen["setting"],
            float(chosen["learning_rate"]),
        ):
            return setting
    raise ValueError(f"no setting of {method.name} is {chosen}")


def rows_of_lanes(params):
    """Parameters of `LaneMLP` as those of `MLP`, with leading axes."""
    layers = params["params"]
    return {
        "params": {
            name.removeprefix("_Lane"): {
                "kernel": np.swapaxes(layer["kernel"], -1, -2),
                "bias": layer["bias"],
            }
            for name, layer in layers.items()
        }
    }


def in_float64(tree):
    """All floating numbers of a pytree in float64."""
    return jax.tree.map(
        lambda v: np.float64(v) if np.issubdtype(np.asarray(v).dtype, np.floating) else v, tree
    )


if __name__ == "__main__":
    main()
