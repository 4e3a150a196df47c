"""What holds for every study: wrong arguments are refused at once, and its help is true."""

import functools
import inspect
import math
import re
import typing
import zipfile

import numpy as np
import pytest

from experiments import EXPERIMENTS
from experiments.contrastive._shared import LearntTemperatures
from experiments.contrastive.contrastive_choice import Grid
from experiments.robust_losses import _shared as shared
from lnl_jax import data
from lnl_jax.comparison import catalogue as choices
from lnl_jax.comparison import methods as noisy_labels
from lnl_jax.comparison.catalogue import CATALOGUE, LOSSES, MODELS
from lnl_jax.comparison.label_plan import Projector, Students
from lnl_jax.comparison.networks import tabular
from lnl_jax.comparison.table_sets import TABLE_SETS
from lnl_jax.distill import labels
from lnl_jax.runner import arguments, help_text
from lnl_jax.runner.arguments import StudyError
from lnl_jax.runner.command_line import bind
from lnl_jax.runner.signatures import keywords_of, options_of
from tests.documentation import ROOT

WRONG = {float: (math.nan, math.inf, -math.inf, -1.0), int: (-1, 10**30, 2.5, True, math.nan)}
# Arguments that are no numbers, and those whose functions have a look at them.
NO_NUMBERS = {
    "only",
    "runs",
    "without",
    "losses",
    "methods",
    "noises",
    "noise",
    "dataset",
    "rows",
    "labels",
    "clip",
    "templates",
}
NO_NUMBERS |= {
    "folder.class_names",
    "text.vocabulary",
    "names.sentences",
    "names.imagenet",
    "ablation",
    "shuffle",
    "streamed",
    "shard_tables",
    "reading.skip_unreadable",
    "folder.skip_unreadable",
    "data_dir",
    "resume",
    "annotations",
    "features",
    "tower",
    "sentences",
    *(f"columns.{field}" for field in ("item", "annotator", "label", "truth")),
    *(f"columns.{field}" for field in ("preferred", "other", "voter", "best")),
    "votes",
    "corrections",
    "people",
}


def test_every_study_has_a_line_among_the_studies():
    page = (ROOT / "docs/studies.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == sorted(EXPERIMENTS)


def numbers_of(study):
    """Every argument and field of one that is a number: path, annotation, default."""
    hints = typing.get_type_hints(study, include_extras=True)
    for argument, parameter in inspect.signature(study).parameters.items():
        if argument != "resume" and hasattr(parameter.default, "_asdict"):
            own = typing.get_type_hints(type(parameter.default), include_extras=True)
            for field, default in parameter.default._asdict().items():
                yield f"{argument}.{field}", own[field], default
        else:
            yield argument, hints[argument], parameter.default


def wrong_numbers():
    """Every study with every number of its signature out of range, and no number where one is."""
    for name, study in EXPERIMENTS.items():
        for argument, hint, default in numbers_of(study):
            found = arguments._range_of(hint)
            if found is None:
                is_choice = hasattr(hint, "__metadata__")
                assert is_choice or argument in NO_NUMBERS, (name, argument)
                continue
            kind, allowed, several = found
            for one in default if several and default else ():
                assert one in allowed
            for value in (*WRONG[kind], *([()] if several else [])):
                yield name, argument, (value,) if several and value != () else value


def call_with(study, argument, value):
    """A call with this argument, or this field of one."""
    name, _, field = argument.partition(".")
    if field:
        value = inspect.signature(study).parameters[name].default._replace(**{field: value})
    return study(**{name: value})


def test_every_number_without_sense_is_refused_by_every_study_before_anything_is_read():
    checked = set()
    for name, argument, value in wrong_numbers():
        with pytest.raises(StudyError, match=rf"^{re.escape(argument)} must "):
            call_with(EXPERIMENTS[name], argument, value)
        checked.add(name)
    assert checked == set(EXPERIMENTS)


def tiny(data_dir=None):
    return data.shapes32(num_classes=10, num_train=200, num_test=10, seed=0)


def table(data_dir=None):
    part = {"x": np.zeros((4, 3), np.float32), "label": np.arange(4), "index": np.arange(4)}
    return data.Splits(part, part, 4)


def network(name, **sizes):
    return {"dataset": tiny, "model": functools.partial(MODELS[name], **sizes)}


def loss(name, **keywords):
    return {"loss": functools.partial(LOSSES[name], **keywords)}


DIGITS = {"dataset": TABLE_SETS["digits"]}
ONE_BOUND = LearntTemperatures(range=(1.0,))
# study, arguments, what the line says
REFUSED = [
    ("ldr_digits", {"batch_size": 100_000}, "batch_size must be at most the 1,150 training"),
    ("ldr_digits", loss("ldr_kl", temperature=-1.0), "loss ldr_kl: temperature must be above 0"),
    ("ldr_digits", loss("ldr_kl", temperature=math.nan), "loss ldr_kl: temperature must"),
    ("ldr_digits", loss("ldr_kl", top_k=50), "top_k must be an integer from 1 to"),
    ("ldr_digits", loss("symmetric_cross_entropy", alpha=-1.0), "symmetric_cross_entropy: alpha"),
    ("dro_groups", {"batch_size": 100_000}, "batch_size must be at most"),
    ("loss_leaderboard", {"batch_size": 100_000}, "batch_size must be at most"),
    ("loss_leaderboard", {"only": ("ldr",)}, "only cannot be ldr; did you mean ldr_kl"),
    (
        "ldr_benchmark",
        {"dataset": TABLE_SETS["digits"], "batch_size": 100_000},
        "batch_size must be at most",
    ),
    ("ldr_benchmark", {"noises": ()}, "noises must hold at least one"),
    ("ldr_benchmark", {"losses": ("ldr_kl", "ldr_kl")}, "losses must not name anything twice"),
    ("contrastive_choice", {"batch_sizes": (8, 1_000)}, "batch_sizes must be at most the"),
    ("contrastive_choice", {"batch_sizes": (1,)}, "batch_sizes must be from 2"),
    ("contrastive_choice", {"imbalances": ()}, "imbalances must hold at least one"),
    ("contrastive_choice", {"grid": Grid(gammas=(0.5, 0.5))}, "grid.gammas must not name"),
    ("contrastive_choice", {"grid": Grid(temperatures=(0.01,))}, "grid.temperatures must be from"),
    ("contrastive_choice", {"largest": 500}, "lower largest or test_per_class"),
    ("isogclr_digits", {"batch_size": 100_000}, "batch_size must be at most"),
    ("isogclr_digits", {"batch_size": 1}, "batch_size must be at least 2"),
    ("isogclr_digits", {"starts": (2.0,)}, "starts must be from 0.05 to 1.0"),
    ("isogclr_digits", {"temperatures": ONE_BOUND}, "temperatures.range must be two rising"),
    ("isogclr_pairs", {"batch_size": 100_000}, "batch_size must be at most"),
    ("isogclr_pairs", {"train_size": 100_000}, "train_size must be from 1 to 1438"),
    ("isogclr_pairs", {"dataset": table}, "must be images with labels, but holds index"),
    ("isogclr_cifar", {"dataset": table, "epochs": 20}, "must be images with labels"),
    ("isogclr_cifar", {"epochs": 5}, "lars.warmup_epochs must be from 0 to epochs - 1 = 4"),
    ("isogclr_cifar", {"dataset": tiny, "projector_width": 60_000, "batch_size": 2}, "parameters"),
    ("isogclr_cc3m", {}, "give --data_dir DIR"),
    ("isogclr_cc3m", {"data_dir": "nowhere"}, "nowhere"),
    ("ldr_cifar", {"dataset": table}, r"must be images .* x \(4, 3\); other studies take"),
    ("ldr_cifar", {"data_dir": "nowhere"}, "data_dir must be a folder that exists"),
    ("ldr_cifar", {"dataset": choices.OWN_SETS["npz"]}, "give --data_dir DIR"),
    ("ldr_cifar", {"folds": 3, "first_folds": 4}, "first_folds must be from 1 to folds = 3"),
    ("ldr_cifar", {"dataset": tiny, "train_size": 201}, "train_size must be from 1 to 200"),
    ("ldr_cifar", {"dataset": tiny, "batch_size": 500}, "batch_size must be at most the"),
    ("ldr_cifar", network("resnet8", width=0), "^model"),
    ("ldr_cifar", network("convnet", width=-3), "^model"),
    ("ldr_cifar", network("convnet", depth=40), "^model: images of shape .* smaller depth"),
    ("ldr_cifar", network("convnet", width=10**9), "^model has .* parameters; make it smaller"),
    ("ldr_cifar", network("vit", heads=7), "^model: heads must divide the width 64"),
    ("ldr_cifar", network("vit", patch_size=0), "^model"),
    ("ldr_cifarn", {"dataset": table}, "must be images"),
    ("ldr_cifarn", {"first_folds": 6}, "first_folds must be from 1 to folds = 5"),
    ("ldr_cifarn", {"dataset": tiny}, "the data set has no human labels"),
    ("ldr_letter", {"data_dir": "nowhere"}, "data_dir must be a folder that exists"),
    ("hello_digits", {"projector": Projector(rank=60_000)}, "projector: rank must be at most 256"),
    ("hello_digits", {"projector": Projector(head_rank=60_000)}, "head_rank must be at most 64"),
    ("hello_digits", {"per_class": (5_000,)}, "per_class must be from 1 to the 106 images"),
    ("hello_digits", {"per_class": (1, 1)}, "per_class must not name anything twice"),
    (
        "hello_digits",
        {"students": Students(learning_rates=(0.1, 0.1))},
        "must not name anything",
    ),
    ("hello_digits", {"rows": ("hrd",)}, "rows cannot be hrd; did you mean hard"),
    ("hello_digits", {"rows": ()}, "rows must hold at least one"),
    (
        "hello_digits",
        {"architecture": functools.partial(labels.small_convnet, width=0)},
        "^architecture",
    ),
    ("hello_digits", {"students": Students(epochs=3)}, "students.epochs must be at least 4"),
    ("hello_digits", {"teacher_steps": 8}, "teacher_steps must be from 9 to"),
    ("hello_noisy", {"rank": 60_000}, "rank must be at most 256"),
    ("hello_cifar", {"templates": ("a photo",)}, "templates must each have {}"),
    ("hello_cifar", {"dataset": table}, "must be images"),
    ("hello_cifar", {"data_dir": "nowhere"}, "data_dir must be a folder that exists"),
    ("hello_imagenet", {}, "give --data_dir DIR"),
    ("hello_imagenet", {"data_dir": "nowhere"}, "there is no folder nowhere"),
]


@pytest.mark.parametrize(("name", "given", "text"), REFUSED)
def test_what_does_not_go_together_is_refused_before_the_first_training(name, given, text):
    with pytest.raises(StudyError, match=text) as error:
        next(EXPERIMENTS[name](**given))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_what_its_name_says_is_the_users_to_mend(tmp_path):
    (tmp_path / "letter.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(StudyError):
        next(EXPERIMENTS["ldr_letter"](data_dir=str(tmp_path)))
    np.savez(tmp_path / "letter.npz", x_train=np.zeros((4, 2, 2, 1), np.uint8))
    with pytest.raises(StudyError):
        next(EXPERIMENTS["ldr_letter"](data_dir=str(tmp_path)))


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, EOFError, zipfile.BadZipFile])
def test_only_what_the_user_chose_becomes_an_error_of_the_user(error):
    with pytest.raises(StudyError, match="^model: no"), arguments.refused("model"):
        raise error("no")
    for ours in (KeyError, IndexError, AssertionError, AttributeError):
        with pytest.raises(ours), arguments.refused("model"):
            raise ours("no")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_fits_80_columns_and_tells_time_and_hardware(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = help_text.describe(name, EXPERIMENTS[name])
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r":\w+:`|\\\w|``|\(required\)", text)
    assert re.search("CPU|accelerator", help_text.time_taken(EXPERIMENTS[name]))
    for option, (kind, default) in options_of(EXPERIMENTS[name]).items():
        if kind.choices:  # "none" is a name, or it is nothing, but not both
            assert (
                default is not None or None in kind.choices.values() or "none" not in kind.choices
            )
            assert f"choices of --{option}:" in text


def offered_keywords():
    """Every keyword of a loss that the help offers, with a value that is usual for it."""
    kind, _ = options_of(EXPERIMENTS["ldr_digits"])["loss"]
    for name in LOSSES:
        usual = {**CATALOGUE[name].grid[0], **CATALOGUE[name].fixed}
        for keyword, (_, default) in keywords_of(kind, name).items():
            yield name, keyword, usual.get(keyword, default)


def test_whatever_help_offers_for_a_loss_can_be_given_and_left_out():
    build = functools.partial(
        noisy_labels.robust_loss,
        network=tabular(shared.MODEL),
        total_steps=2,
        learning_rates=[0.1],
    )
    offered = list(offered_keywords())
    assert not {"matrix", "class_counts", "weights"} & {keyword for _, keyword, _ in offered}
    for name, keyword, value in offered:
        call = bind(EXPERIMENTS["ldr_digits"], {"loss": name, f"loss.{keyword}": value})
        method = build(call.arguments["loss"], normalize=choices.unnormalized)
        assert method.name == name
        assert all(keyword not in setting for setting in method.settings)
    for name in LOSSES:
        assert bind(EXPERIMENTS["ldr_digits"], {"loss": name}).config["loss"] == name


def test_raw_scores_and_the_normalisation_of_a_loss_have_two_names():
    for name in ("ldr_digits", "ldr_letter", "ldr_cifar", "ldr_cifarn"):
        study = EXPERIMENTS[name]
        assert bind(study, {}).config["normalize"] == "default"
        raw = bind(study, {"normalize": "none"})
        assert raw.arguments["normalize"] is choices.unnormalized
        assert raw.overrides == {"normalize": "none"}
