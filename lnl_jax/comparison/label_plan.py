"""What a comparison of soft labels compares: whose labels, which projectors, how students learn."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from lnl_jax.distill import labels, projectors
from lnl_jax.runner.arguments import Count, NotNegative, Positive, Repetitions, Size, Steps

# Checkpoints of the teacher's run, and which of them are the weak teachers.
CHECKPOINTS, WEAK = 9, (2, 5, 8)
BATCH = 50
PROBE, MAIN = "linear probe", "LoRA, text, low-rank head"
# On a tower, the network whose labels could be stored: an adapter too large to be the point.
WIDE, WIDE_RANK = "wide adapter", 64
# What a projector may follow, and what it is called where that is not the usual one.
FOLLOWED = {"classes": "classes alone", "teacher": "one teacher", "weak": "weak teachers"}


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
        source: a network: teacher, weak, projector, probe, zero-shot or the name of a projector;
            None for the classes.
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
    "projector_kl_updated": StudentLabels("projector", None, "kl", "updated"),
    "probe_kl": StudentLabels("probe", None, "kl"),
}
DEFAULT_ROWS = tuple(ROWS)[:8]
# With a pretrained tower there is a better teacher than one that is trained from scratch.
TOWER_ROWS = ROWS | {
    "stored_wide_kl": StudentLabels(WIDE, "float16", "kl"),
    "stored_wide_kl_random": StudentLabels(WIDE, "float16", "kl", "random"),
}
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
        chooser: whose confidence chooses the crops of distilled images: teacher or projector.
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
    chooser: str = "teacher"


def projector_kinds(
    plan: Plan, *, on_tower: bool = False
) -> dict[str, tuple[projectors.Adaptation, str]]:
    """What is trained, and what it follows; the ablation adds what a choice is worth.

    The wide adapter is trained where a row asks for its labels.

    A pretrained tower is better than a teacher that is trained from scratch on the same images, so
    that its projectors learn the classes; others follow the weak teachers.

    Args:
        plan: what is compared.
        on_tower: whether the foundation model is a pretrained tower with a frozen prefix.

    Returns:
        By name an adaptation and a name of `FOLLOWED`.
    """
    found = projectors.adaptations(plan.projector.rank, plan.projector.head_rank)
    usual = "classes" if on_tower else "weak"
    kinds = {name: (found[name], usual) for name in (PROBE, MAIN)}
    if any(TOWER_ROWS[row].source == WIDE for row in plan.rows):
        kinds[WIDE] = projectors.Adaptation(WIDE_RANK, None), usual
    if plan.ablation:
        kinds |= {name: (one, usual) for name, one in found.items() if name not in kinds}
        kinds |= {
            f"{name}, {how}": (found[name], other)
            for other, how in FOLLOWED.items()
            if other != usual
            for name in (PROBE, MAIN)
        }
    return kinds


def student_rows(plan: Plan, kinds: Iterable[str]) -> dict[str, StudentLabels]:
    """The rows of students; the ablation adds one for each projector that has none.

    Args:
        plan: what is compared.
        kinds: names of the projectors.

    Returns:
        Labels by name of the row.
    """
    rows = {name: TOWER_ROWS[name] for name in plan.rows}
    if plan.ablation:
        others = (name for name in kinds if name not in (PROBE, MAIN, WIDE))
        rows |= {name: StudentLabels(name, None, "kl") for name in others}
    return rows
