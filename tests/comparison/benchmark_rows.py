"""Rows as a benchmark of losses yields them, drawn at random."""

import numpy as np

CONDITIONS = [
    ("clean", 0.0),
    *(("uniform", rate) for rate in (0.3, 0.6, 0.9)),
    *(("class_dependent", rate) for rate in (0.1, 0.3, 0.5)),
]
PAPER = (
    "aldr_kl ldr_kl cross_entropy symmetric_cross_entropy generalized_cross_entropy "
    "truncated_generalized_cross_entropy weston_watkins jensen_shannon crammer_singer "
    "robust_log_loss nce_rce nce_agce nce_aul mean_absolute_error mean_squared_error"
).split()


def make_rows(losses=PAPER, conditions=CONDITIONS, datasets=("letter",), folds=5, seed=0):
    """Three settings at two learning rates, five folds; losses differ more at more noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for dataset in datasets:
        for noise, rate in conditions:
            for place, loss in enumerate(losses):
                best = 0.8 - rate * (0.2 + 0.5 * place / len(losses)) + rng.normal(0, 0.01)
                for temperature in (0.1, 1.0, 10.0):
                    for learning_rate in (0.1, 0.01):
                        level = best - 0.05 * rng.random() - 0.1 * (learning_rate == 0.01)
                        rows += [
                            _row(rng, level, temperature, fold=fold)
                            | {"dataset": dataset, "noise": noise, "rate": rate, "loss": loss}
                            | {"setting": f"temperature {temperature:g}", "seed": 0}
                            | {"learning_rate": learning_rate, "epochs": 100}
                            | ({} if loss == "aldr_kl" else NO_TEMPERATURES)
                            for fold in range(folds)
                        ]
    return rows


NO_TEMPERATURES = {"temperature_clean": None, "temperature_mislabelled": None}


def _row(rng, level, temperature, fold):
    top = level + 0.01 * rng.normal()
    row = {f"top_{k}": min(top + 0.05 * (k - 1), 0.99) for k in range(1, 6)}
    row |= {"fold": fold, "validation_accuracy": 0.6 * level + 0.005 * rng.normal()}
    row |= {"memorized": 0.05 * rng.random()}
    row |= {"temperature_clean": temperature * (0.6 + 0.05 * rng.random())}
    return row | {"temperature_mislabelled": temperature * (0.8 + 0.1 * rng.random())}
