"""What a comparison of soft labels compares: whose labels, which projectors, how students learn."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lnl_jax.distill import labels, projectors
from lnl_jax.runner.arguments import Count, NotNegative, Positive, Repetitions, Size, Steps

# Checkpoints of the teacher's run, and which of them are the weak teachers.
CHECKPOINTS, WEAK = 9, (2, 5, 8)
BATCH = 50
MAIN = "LoRA, text, low-rank head"


class Students(NamedTuple):
    """How students are trained.

    Attributes:
        count: how many, of different seeds.
        epochs: passes over the distilled images; at least 4 with images in memory.
        batch_size: images in a step.
        learning_rates: the first, to choose from on held-out images.
        temperature: of the divergence.
        ce_weight: of the classes beside squared errors.
    """

    count: Repetitions = 3
    epochs: Count = 200
    batch_size: Count = 50
    learning_rates: tuple[Positive, ...] = (3e-3,)
    temperature: Positive = 4.0
    ce_weight: NotNegative = 0.1

    def objective(self, name: str) -> labels.Objective:
        """By a row's name of it."""
        usual = labels.objectives(temperature=self.temperature, ce_weight=self.ce_weight)
        return usual[name]


class Projector(NamedTuple):
    """How projectors are trained.

    Attributes:
        rank: of the tower's adapter.
        head_rank: of the head's.
        steps: of every projector.
    """

    rank: Size = 4
    head_rank: Size = 4
    steps: Steps = 800


class StudentLabels(NamedTuple):
    """What a row's students follow.

    Attributes:
        source: a network: teacher, weak, projector or zero-shot; None for the classes.
        form: in which the labels are stored, of `labels.FORMS`; None for live ones.
        objective: kl, mse or hard.
        images: distilled, random or updated.
        augmented: whether there are crops, mirrored ones and CutMix.
    """

    source: str | None
    form: str | None
    objective: str
    images: str = "distilled"
    augmented: bool = True


# name on the command line and in tables -> labels; mse is with a little cross-entropy.
ROWS = {
    "hard": StudentLabels(None, None, "hard"),
    "hard_random": StudentLabels(None, None, "hard", "random"),
    "stored_kl": StudentLabels("teacher", "float16", "kl"),
    "projector_kl": StudentLabels("projector", None, "kl"),
    "zero_shot_kl": StudentLabels("zero-shot", None, "kl"),
    "stored_mse": StudentLabels("teacher", "float16", "mse"),
    "projector_mse": StudentLabels("projector", None, "mse"),
    "projector_kl_random": StudentLabels("projector", None, "kl", "random"),
    "pruned_kl": StudentLabels("teacher", "pruned", "kl"),
    "bytes_kl": StudentLabels("teacher", "bytes", "kl"),
    "top3_kl": StudentLabels("teacher", "top3", "kl"),
    "weak_mse": StudentLabels("weak", None, "mse"),
    "projector_mse_updated": StudentLabels("projector", None, "mse", "updated"),
}
DEFAULT_ROWS = tuple(ROWS)[:8]
# Classes, soft labels, and soft labels of random images: what the label-robust score compares.
SCORED = ("hard", "projector_kl", "projector_kl_random")


class Plan(NamedTuple):
    """What is compared, beside images and networks.

    Attributes:
        rows: names of `ROWS`.
        per_class: distilled images of each class.
        teacher_steps: of the teacher, at least `CHECKPOINTS`.
        projector: how projectors are trained.
        students: how students are trained.
        ablation: adds projectors without text, with a full head, and with a single teacher.
        flip_rate: of mirrored crops.
        seed: of teachers, projectors, images and geometry.
        dtype: in which teachers and students compute; None leaves the students as they are.
    """

    rows: Sequence[str]
    per_class: Sequence[int]
    teacher_steps: int
    projector: Projector
    students: Students
    ablation: bool
    flip_rate: float
    seed: int
    dtype: Any = None


def projector_kinds(plan: Plan) -> dict[str, tuple[projectors.Adaptation, str]]:
    """What is trained, and whose logits it follows; the ablation adds what a choice is worth.

    Args:
        plan: what is compared.

    Returns:
        By name an adaptation and `teacher` or `weak`.
    """
    found = projectors.adaptations(plan.projector.rank, plan.projector.head_rank)
    kinds = {name: (found[name], "weak") for name in ("linear probe", MAIN)}
    if plan.ablation:
        kinds["linear probe, one teacher"] = found["linear probe"], "teacher"
        kinds |= {name: (one, "weak") for name, one in found.items() if name not in kinds}
    return kinds
