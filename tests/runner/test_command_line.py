import functools
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import pytest

from lnl_jax.runner import command_line, frame, help_text, signatures
from lnl_jax.runner.arguments import Positive, StudyError, check_arguments
from lnl_jax.runner.usage import UsageError


def ldr(logits, labels, *, margin: float = 0.1, temperature: jax.typing.ArrayLike = 1.0, axis=-1):
    """LDR-KL."""


def ranked(logits, labels, *, top_k: int, weight: float | None = None, where=None):
    """Ranked."""


def mean(x):
    """Mean."""


def net(size, *, width: int = 8):
    """A network."""


def wide(size, *, width: int = 64):
    """A wide one."""


NETWORKS = {"net": net, "wide": wide}


class Students(NamedTuple):
    """How students are trained.

    Attributes:
      epochs: passes over
        the images.
      rates: the first ones.
      network: of them.
    """

    epochs: int = 200
    rates: tuple[float, ...] = (3e-3,)
    network: Annotated[Callable, NETWORKS] = net


SUPPLIED = signatures.Supplied(always=("weight",), unless_given={"ldr": ("temperature",)})
LOSSES = {"ldr": ldr, "ldr_wide": functools.partial(ldr, margin=2.0), "ranked": ranked}


def toy(
    *,
    epochs: int = 40,
    noise_rate: float = 0.4,
    name: str = "a",
    balanced: bool = False,
    width: int | None = None,
    rates: tuple[float, ...] = (0.1, 0.2),
    sizes: tuple[int, ...] = (),
    methods: tuple[str, ...] = ("x", "y"),
    loss: Annotated[Callable, LOSSES] = ldr,
    normalize: Annotated[Callable | None, {"mean": mean}] = None,
    augment: Annotated[Callable | None, {"default": None, "none": mean, "flip": ldr}] = None,
    searched: Annotated[Callable | None, LOSSES, SUPPLIED] = None,
    students: Students = Students(rates=(0.1,)),  # noqa: B008
    data_dir: str | None = None,
    resume: tuple = (),
):
    """A toy study, Table 3.

    It takes a second.

    Args:
      epochs: passes over
        the data, 100% of it.
      noise_rate: share of wrong labels.

    Yields:
      rows.
    """


def bind(line):
    return command_line.bind(toy, frame.pairs(line.split()))


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--epochs 3", "epochs", 3),
        ("--epochs=-3", "epochs", -3),
        ("--noise_rate -1e-3", "noise_rate", -1e-3),
        ("--noise_rate 1", "noise_rate", 1.0),
        ("--name 1", "name", "1"),
        ("--name=a=b", "name", "a=b"),
        ("--balanced true", "balanced", True),
        ("--width 3", "width", 3),
        ("--rates -1,2.5", "rates", (-1.0, 2.5)),
        ("--rates 3", "rates", (3.0,)),
        ("--sizes 1,2", "sizes", (1, 2)),
        ("--methods u,v", "methods", ("u", "v")),
    ],
)
def test_a_value_takes_the_type_of_its_argument(line, name, value):
    call = bind(line)
    assert repr(call.arguments[name]) == repr(value)  # 1 == 1.0 == True
    assert call.overrides == {name: value}


def test_without_words_every_argument_has_its_default():
    call = bind("")
    assert call.overrides == {}
    assert call.arguments["loss"] is ldr
    assert call.arguments["normalize"] is None
    assert "data_dir" not in call.arguments
    assert "resume" not in call.arguments
    assert call.config["loss"] == "ldr"
    assert call.config["loss.temperature"] == 1.0


def test_an_override_equal_to_the_default_is_none():
    line = "--epochs 40 --noise_rate 0.4 --width none --rates 0.1,0.2 --loss ldr --loss.margin 0.1"
    assert bind(line).overrides == {}


def test_the_absence_of_a_choice_and_a_choice_named_none_have_two_names():
    assert bind("").arguments["augment"] is None
    assert bind("").config["augment"] == "default"
    assert bind("--augment default").overrides == {}
    assert bind("--augment none").arguments["augment"] is mean
    assert bind("--augment none").overrides == {"augment": "none"}

    def ambiguous(*, augment: Annotated[Callable | None, {"none": mean}] = None):
        pass

    with pytest.raises(TypeError, match="augment: none may mean"):
        command_line.bind(ambiguous, {})


def test_what_an_experiment_supplies_is_its_own_unless_it_is_given():
    assert "searched.temperature" not in bind("--searched ldr").config
    # The default of the loss is not what the experiment does without it: another configuration.
    assert bind("--searched ldr --searched.temperature 1").overrides == {
        "searched": "ldr",
        "searched.temperature": 1.0,
    }
    with pytest.raises(UsageError, match="weight: ranked has no such keyword"):
        bind("--searched ranked --searched.top_k 1 --searched.weight 1")
    lines = [" ".join(line.split()) for line in help_text.describe("toy", toy).splitlines()]
    assert "--searched.temperature float (the study's own unless given)" in lines
    assert "--searched.weight" not in " ".join(lines)


def test_a_choice_brings_its_own_keywords():
    call = bind("--loss ldr_wide --loss.temperature 10")
    assert call.arguments["loss"].func is ldr
    assert call.arguments["loss"].keywords == {"margin": 2.0, "temperature": 10.0}
    assert call.overrides == {"loss": "ldr_wide", "loss.temperature": 10.0}
    assert call.config["loss.margin"] == 2.0
    assert bind("--loss.temperature 10").overrides == {"loss.temperature": 10.0}
    assert bind("--normalize mean").arguments["normalize"] is mean
    assert bind("--normalize none").arguments["normalize"] is None
    assert bind("--loss ranked --loss.top_k 3 --loss.weight none").overrides == {
        "loss": "ranked",
        "loss.top_k": 3,
    }


def test_the_fields_of_a_named_tuple_are_options():
    call = bind("--students.epochs 3 --students.network wide --students.network.width 9")
    students = call.arguments["students"]
    assert (students.epochs, students.rates) == (3, (0.1,))
    assert (students.network.func, students.network.keywords) == (wide, {"width": 9})
    assert call.overrides == {
        "students.epochs": 3,
        "students.network": "wide",
        "students.network.width": 9,
    }
    assert call.config["students.rates"] == (0.1,)
    assert bind("").arguments["students"] == Students(rates=(0.1,))
    assert bind("--students.rates 0.1 --students.network net").overrides == {}
    point = {"students.rates": (0.2, 0.3)}
    assert command_line.bind(toy, point).arguments["students"].rates == (0.2, 0.3)


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("--students 3", ["--students takes no value itself", "students.epochs"]),
        ("--students.epoch 3", ["has no --students.epoch;", "did you mean students.epochs"]),
        ("--students.epochs x", ["--students.epochs takes int", "'x'", "str"]),
        ("--students.epochs.x 3", ["--students.epochs is int", "--students.epochs.x"]),
        ("--students.network.depth 3", ["--students.network.depth: net has no such keyword"]),
        ("--epoch 3", ["toy has no argument --epoch", "did you mean epochs"]),
        ("--zzzzz 3", ["there is epochs, noise_rate, name"]),
        ("--epochs 1.5", ["--epochs takes int", "'1.5'", "float"]),
        ("--epochs true", ["--epochs takes int", "'true'", "bool"]),
        ("--noise_rate high", ["--noise_rate takes float", "'high'", "str"]),
        ("--balanced 1", ["--balanced takes true or false", "'1'", "int"]),
        ("--width wide", ["--width takes int or none", "'wide'", "str"]),
        ("--epochs none", ["--epochs takes int", "'none'", "str"]),
        ("--sizes 1,2.5", ["--sizes takes comma-separated ints", "'2.5'", "float"]),
        ("--loss lrd", ["'lrd'", "did you mean ldr"]),
        ("--loss none", ["'none'", "there is ldr, ldr_wide, ranked"]),
        ("--loss.temprature 3", ["ldr has no such keyword", "did you mean temperature?"]),
        ("--loss ranked --loss.margin 3", ["ranked has no such keyword", "there is top_k, weight"]),
        ("--loss.axis 0", ["ldr has no such keyword", "margin, temperature"]),
        ("--loss ranked --loss.where 0", ["ranked has no such keyword"]),
        ("--loss.logits 0", ["ldr has no such keyword"]),
        ("--loss.margin wide", ["--loss.margin takes float", "'wide'", "str"]),
        ("--loss ranked --loss.top_k 1.5", ["--loss.top_k takes int", "float"]),
        ("--normalize.scale 3", ["--normalize.scale needs --normalize NAME"]),
        ("--noise_rate nan", ["--noise_rate takes float", "'nan'", "not a number"]),
        ("--loss ranked", ["--loss ranked needs --loss.top_k: int"]),
        ("--epochs.x 3", ["--epochs is int", "--epochs.x"]),
        ("--resume 3", ["toy has no argument --resume"]),
        ("--epochs", ["--epochs needs a value"]),
        ("--epochs --name a", ["--epochs needs a value"]),
        ("--epochs 3 --epochs=4", ["--epochs is given twice"]),
        ("epochs 3", ["expected --name value, got 'epochs'"]),
    ],
)
def test_a_wrong_word_is_named_with_the_repair(line, texts):
    with pytest.raises(UsageError) as error:
        bind(line)
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


def test_values_of_a_sweep_are_checked_like_words():
    point = {"rates": (0.5, 1.0), "width": None, "balanced": True, "loss.margin": 1e-7}
    call = command_line.bind(toy, point)
    assert call.overrides == {"rates": (0.5, 1.0), "balanced": True, "loss.margin": 1e-7}
    with pytest.raises(UsageError, match="--epochs takes int"):
        command_line.bind(toy, {"epochs": 0.5})


def test_a_required_argument_is_asked_for():
    def needy(*, seed: int):
        pass

    with pytest.raises(UsageError, match="--seed is needed: int"):
        command_line.bind(needy, {})
    assert command_line.bind(needy, {"seed": 1}).overrides == {"seed": 1}


def test_a_signature_that_no_command_line_can_express_is_a_bug_of_the_experiment():
    def typed(*, settings: dict[str, int] = {}):  # noqa: B006
        pass

    def untyped(*, rate=0.1):
        pass

    def without_default(*, students: Students):
        pass

    def choosing(*, loss: Annotated[Callable, LOSSES] = mean):
        pass

    for experiment in (typed, without_default, choosing):
        with pytest.raises(TypeError):
            command_line.bind(experiment, {})
    with pytest.raises(TypeError, match="argument rate needs a type .*got none: annotate it as"):
        command_line.bind(untyped, {})


def test_help_shows_docstring_types_defaults_and_choices(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = help_text.describe("toy", toy)
    whole = " ".join(text.split())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "A toy study, Table 3." in lines
    assert "--epochs int passes over the data, 100% of it. (default: 40)" in lines
    assert "--noise_rate float share of wrong labels. (default: 0.4)" in lines
    assert "--rates comma-separated floats (default: 0.1,0.2)" in whole
    assert "--loss NAME (default: ldr)" in lines
    assert "ranked: Ranked." in lines
    words = " ".join(text.split())
    assert "--students.epochs int passes over the images. (default: 200)" in words
    assert "--students.rates comma-separated floats the first ones. (default: 0.1)" in words
    assert "--students.network NAME of them. (default: net)" in words
    assert "--students.network.width int (default: 64)" in words
    assert "--loss.top_k int (required)" in lines
    assert "rows." in lines
    assert "Args:" not in lines
    assert "--data_dir" not in text


def test_help_breaks_a_long_default_after_commas_not_inside_its_values(monkeypatch):
    names = tuple(f"student_number_{index}" for index in range(9))

    def crowded(*, rows: tuple[str, ...] = names):
        """A study."""

    monkeypatch.setenv("COLUMNS", "80")
    lines = help_text.describe("crowded", crowded).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(name in line for line in lines) for name in names)


def test_the_frame_leaves_the_words_of_the_experiment_alone():
    line = "--exp toy --noise_rate -1e-3 --force --rates=-1,2 --loss.margin 3 --results_dir out"
    options, words, _ = frame.parse_frame(line.split())
    assert (options.exp, options.force, options.results_dir) == ("toy", True, "out")
    assert words == ["--noise_rate", "-1e-3", "--rates=-1,2", "--loss.margin", "3"]


def test_a_number_beyond_a_bound_that_is_not_said_otherwise_is_told_it():
    def study(*, rate: Positive = 1.0):
        yield {"rate": rate}

    for value, bounds in ((0.0, "above 0"), (1e30, r"above 0 and below 1e\+30")):
        with pytest.raises(StudyError, match=f"^rate must be {bounds}, got "):
            check_arguments(study, {"rate": value})
