"""Studies as generator functions: results folders, progress, command line, report, stages."""

from lnl_jax.runner.arguments import (
    Count,
    Folds,
    NotNegative,
    Positive,
    PositiveShare,
    Range,
    Repetitions,
    Seed,
    Seeds,
    Share,
    Size,
    Steps,
    StudyError,
    Threads,
    Whole,
    check_arguments,
    refused,
    study,
)
from lnl_jax.runner.commands import main, write_report
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume
from lnl_jax.runner.stages import stage

__all__ = [
    "Artifact",
    "Checkpoint",
    "Count",
    "Folds",
    "NotNegative",
    "Positive",
    "PositiveShare",
    "Range",
    "Repetitions",
    "Resume",
    "Seed",
    "Seeds",
    "Share",
    "Size",
    "Steps",
    "StudyError",
    "Threads",
    "Whole",
    "check_arguments",
    "main",
    "refused",
    "stage",
    "study",
    "write_report",
]
