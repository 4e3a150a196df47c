"""The studies: one function per experiment, one generator of overrides per sweep."""

from collections.abc import Callable, Iterator
from typing import Any

from experiments.contrastive.contrastive_choice import contrastive_choice
from experiments.contrastive.isogclr_cc3m import isogclr_cc3m
from experiments.contrastive.isogclr_cifar import isogclr_cifar
from experiments.contrastive.isogclr_digits import isogclr_digits
from experiments.contrastive.isogclr_features import isogclr_features
from experiments.contrastive.isogclr_pairs import isogclr_pairs
from experiments.distillation.hello_cifar import hello_cifar
from experiments.distillation.hello_digits import hello_digits, seeds_and_rows
from experiments.distillation.hello_features import hello_features
from experiments.distillation.hello_imagenet import hello_imagenet
from experiments.distillation.hello_noisy import hello_noisy
from experiments.label_quality.candidate_labels import candidate_labels
from experiments.label_quality.crowd_labels import GENERATED, crowd_labels
from experiments.label_quality.label_budget import label_budget
from experiments.label_quality.label_issues import label_issues
from experiments.label_quality.label_leakage import label_leakage
from experiments.label_quality.label_proportions import label_proportions
from experiments.label_quality.memorization_digits import memorization_digits
from experiments.label_quality.test_labels import test_labels
from experiments.robust_losses.aldr_temperatures import aldr_temperatures
from experiments.robust_losses.dro_groups import dro_groups
from experiments.robust_losses.frozen_features import frozen_features
from experiments.robust_losses.ldr_benchmark import ldr_benchmark
from experiments.robust_losses.ldr_cifar import ldr_cifar
from experiments.robust_losses.ldr_cifarn import ldr_cifarn
from experiments.robust_losses.ldr_digits import ldr_digits, noise_rates
from experiments.robust_losses.ldr_letter import ldr_letter
from experiments.robust_losses.ldr_ranks import ldr_ranks
from experiments.robust_losses.loss_leaderboard import loss_leaderboard
from experiments.robust_losses.noisy_training import noisy_training
from experiments.robust_losses.topk_consistency import topk_consistency
from lnl_jax.comparison import catalogue

# name on the command line -> experiment: a keyword-only generator function.
EXPERIMENTS: dict[str, Callable[..., Iterator[Any]]] = {
    "aldr_temperatures": aldr_temperatures,
    "candidate_labels": candidate_labels,
    "crowd_labels": crowd_labels,
    "dro_groups": dro_groups,
    "frozen_features": frozen_features,
    "hello_cifar": hello_cifar,
    "hello_digits": hello_digits,
    "hello_features": hello_features,
    "hello_imagenet": hello_imagenet,
    "hello_noisy": hello_noisy,
    "contrastive_choice": contrastive_choice,
    "isogclr_cc3m": isogclr_cc3m,
    "isogclr_cifar": isogclr_cifar,
    "isogclr_digits": isogclr_digits,
    "isogclr_features": isogclr_features,
    "isogclr_pairs": isogclr_pairs,
    "label_budget": label_budget,
    "label_issues": label_issues,
    "label_leakage": label_leakage,
    "label_proportions": label_proportions,
    "ldr_benchmark": ldr_benchmark,
    "ldr_cifar": ldr_cifar,
    "ldr_cifarn": ldr_cifarn,
    "ldr_digits": ldr_digits,
    "ldr_letter": ldr_letter,
    "ldr_ranks": ldr_ranks,
    "loss_leaderboard": loss_leaderboard,
    "memorization_digits": memorization_digits,
    "noisy_training": noisy_training,
    "test_labels": test_labels,
    "topk_consistency": topk_consistency,
}

# name on the command line -> (name of the experiment, function that yields override dicts).
SWEEPS: dict[str, tuple[str, Callable[[], Iterator[dict[str, Any]]]]] = {
    "hello_digits_seeds": ("hello_digits", seeds_and_rows),
    "ldr_digits_noise": ("ldr_digits", noise_rates),
}


def is_generated(choice: Any) -> bool:
    """Whether this argument of a study is data that nobody measured: a run on it says so."""
    return catalogue.is_generated(choice) or (isinstance(choice, str) and choice == GENERATED)


__all__ = ["EXPERIMENTS", "SWEEPS", "is_generated"]
