"""From the signature of an experiment and the words of a command line to checked arguments."""

import argparse
import difflib
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

# Keywords that are handed to an experiment by `run.py`, not chosen by its configuration.
NOT_OPTIONS = ("resume", "data_dir")
# Keywords of a chosen function that the experiment itself sets.
NOT_SETTABLE = ("axis", "where")


class UsageError(Exception):
    """A command that cannot be carried out; its text is shown to the user, without a traceback."""


class Call(NamedTuple):
    """The arguments of one run.

    Attributes:
      arguments: what the experiment is called with.
      config: every argument as a JSON value; a chosen function by its name.
      overrides: the part of `config` that differs from the defaults.
    """

    arguments: dict[str, Any]
    config: dict[str, Any]
    overrides: dict[str, Any]


class _Kind(NamedTuple):
    """The type of one argument."""

    base: type
    is_tuple: bool = False
    optional: bool = False
    choices: Mapping[str, Callable] | None = None

    def __str__(self) -> str:
        if self.choices is not None:
            text = "one of " + ", ".join(self.choices)
        elif self.is_tuple:
            text = f"comma-separated {self.base.__name__}s"
        else:
            text = {bool: "true or false"}.get(self.base, self.base.__name__)
        return text + " or none" * self.optional


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(message)


# argparse and not tyro: tyro cannot express keywords of a function chosen on the same line.
def parse_frame(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str], Callable[[], str]]:
    """Parses the options of `run.py` itself.

    Returns:
      Its options, the words left for the experiment, and a function that formats the help.
    """
    parser = _Parser(
        prog="python experiments/run.py",
        usage="%(prog)s --exp NAME [--argument VALUE ...] | --sweep NAME | --list",
        description="Runs an experiment and keeps its results; the same command again resumes it.",
        allow_abbrev=False,
        add_help=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--exp", metavar="NAME", help="run this experiment")
    what.add_argument("--sweep", metavar="NAME", help="run every point of this sweep")
    what.add_argument("--list", action="store_true", help="list experiments and sweeps")
    parser.add_argument(
        "--results_dir", metavar="DIR", default="results", help="(default: results)"
    )
    parser.add_argument("--data_dir", metavar="DIR", help="data sets, for experiments that take it")
    parser.add_argument("--force", action="store_true", help="delete earlier results, start over")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and all warnings")
    parser.add_argument("-h", "--help", action="store_true", help="help, also for one experiment")
    options, words = parser.parse_known_args(argv)
    return options, words, parser.format_help


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Turns `--name value` and `--name=value` into a dict."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise UsageError(f"expected --name value, got {word!r}")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"--{name} needs a value")
            value = rest.pop(0)
        if name in found:
            raise UsageError(f"--{name} is given twice")
        found[name] = value
    return found


def look_up(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Returns `table[name]`, or says which names are close."""
    if name not in table:
        raise UsageError(f"unknown {what} {name!r}; {close_names(name, table)}")
    return table[name]


def bind(experiment: Callable, overrides: Mapping[str, Any]) -> Call:
    """Checks overrides against the signature of an experiment.

    Args:
      experiment: a keyword-only function.
      overrides: name to value, as text from the command line or as Python values from a sweep;
        `loss.temperature` sets a keyword of the function chosen as `loss`, `teacher.steps` a field
        of the NamedTuple that is the argument `teacher`.

    Returns:
      The arguments, complete and checked.

    Raises:
      UsageError: for an unknown name or a value of the wrong type.
    """
    given = {name: as_text(value) for name, value in overrides.items()}
    options, groups = _options(experiment), _groups(experiment)
    for name in given:
        if not any(name == option or name.startswith(f"{option}.") for option in options):
            raise UsageError(_unknown(experiment.__name__, name, options, groups))
    arguments, config, defaults = {}, {}, {}
    for name, (kind, default) in options.items():
        own = {k.removeprefix(f"{name}."): v for k, v in given.items() if k.startswith(f"{name}.")}
        if kind.choices is None:
            if own:
                raise UsageError(
                    f"--{name} is {kind}; it has no keyword --{name}.{next(iter(own))}"
                )
            arguments[name] = config[name] = _value(name, kind, default, given)
            defaults[name] = default
            continue
        default_choice = _name_of(default, name, kind)
        choice = _choice(name, kind, default_choice, given)
        config[name], defaults[name] = choice, default_choice
        function, settings, own_defaults = _configured(name, kind, choice, own)
        arguments[name] = function
        config |= {f"{name}.{k}": v for k, v in settings.items()}
        defaults |= {f"{name}.{k}": v for k, v in own_defaults.items()}
    changed = {name: value for name, value in config.items() if value != defaults[name]}
    for name, group in groups.items():
        fields = {field: arguments.pop(f"{name}.{field}") for field in group._fields}
        arguments[name] = group(**fields)
    return Call(arguments, config, changed)


def takes(experiment: Callable, name: str) -> bool:
    """Whether the experiment has this argument."""
    return name in inspect.signature(experiment).parameters


def first_line(function: Callable) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def describe(name: str, experiment: Callable) -> str:
    """The help of one experiment: its docstring, then every argument and choice."""
    text, described = _docstring(experiment)
    for group, fields in _groups(experiment).items():
        own = _section(inspect.getdoc(fields) or "", "Attributes")[1]
        described |= {f"{group}.{field}": words for field, words in own.items()}
    options = _options(experiment)
    chosen = {option: kind.choices for option, (kind, _) in options.items() if kind.choices}
    parser = argparse.ArgumentParser(
        prog=f"python experiments/run.py --exp {name}",
        usage="%(prog)s [--argument VALUE ...]",
        description=text,
        epilog="\n\n".join(_describe_choices(option, each) for option, each in chosen.items()),
        formatter_class=functools.partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=36
        ),
        add_help=False,
    )
    group = parser.add_argument_group("arguments")
    for option, (kind, default) in options.items():
        default = _name_of(default, option, kind) if kind.choices else default
        words = f"{described.get(option, '')} ({_default_text(default)})".strip()
        group.add_argument(
            f"--{option}",
            metavar="NAME" if kind.choices else str(kind),
            help=words.replace("%", "%%"),
        )
    return parser.format_help().rstrip()


def as_text(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(as_text, value))
    return str(value)


_REQUIRED = inspect.Parameter.empty
_SCALARS = (float, int, bool, str)  # where a union allows several, the first of them


def _options(experiment: Callable) -> dict[str, tuple[_Kind, Any]]:
    """Type and default of every argument, or field of one, that the command line may set."""
    hints = typing.get_type_hints(experiment, include_extras=True)
    groups, options = _groups(experiment), {}
    for name, parameter in inspect.signature(experiment).parameters.items():
        if name in groups:
            fields = typing.get_type_hints(groups[name], include_extras=True)
            for field, hint in fields.items():
                full = f"{name}.{field}"
                options[full] = _kind(full, hint), getattr(parameter.default, field)
        elif name not in NOT_OPTIONS:
            options[name] = _kind(name, hints.get(name)), parameter.default
    return options


def _groups(experiment: Callable) -> dict[str, type]:
    """The arguments that are NamedTuples, whose fields are options: `--teacher.steps`."""
    parameters, groups = inspect.signature(experiment).parameters, {}
    for name, hint in typing.get_type_hints(experiment).items():
        if isinstance(hint, type) and hasattr(hint, "_fields") and name not in NOT_OPTIONS:
            if not isinstance(parameters[name].default, hint):
                raise TypeError(f"argument {name}: a {hint.__name__} needs one as its default")
            groups[name] = hint
    return groups


def _unknown(experiment: str, name: str, options: Iterable[str], groups: Mapping[str, type]) -> str:
    """What to say of an option that there is not."""
    group = name.partition(".")[0]
    if group not in groups:
        return f"{experiment} has no argument --{name}; {close_names(name, options)}"
    fields = [f"{group}.{field}" for field in groups[group]._fields]
    given = "takes no value itself" if name == group else f"has no --{name}"
    return f"--{group} {given}; {close_names(name, fields)}"


def _kind(name: str, annotation: Any) -> _Kind:
    if typing.get_origin(annotation) is Annotated:
        base, choices = typing.get_args(annotation)
        return _Kind(str, optional=type(None) in _members(base), choices=choices)
    members = [m for m in _members(annotation) if m is not type(None)]
    optional = len(members) < len(_members(annotation))
    if len(members) == 1 and members[0] in _SCALARS:
        return _Kind(members[0], optional=optional)
    base, *rest = typing.get_args(members[0]) or (None,)
    if typing.get_origin(members[0]) is tuple and base in (float, int, str) and rest == [...]:
        return _Kind(base, is_tuple=True, optional=optional)
    raise TypeError(f"argument {name}: {annotation} cannot be given on the command line")


def _members(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _keywords(function: Callable) -> dict[str, tuple[_Kind, Any]]:
    """Type and default of the keywords of a choice that hold a single value."""
    annotated = function
    while isinstance(annotated, functools.partial):
        annotated = annotated.func
    hints = typing.get_type_hints(annotated)
    keywords = {}
    for name, parameter in inspect.signature(function).parameters.items():
        members = _members(hints.get(name))
        allowed = [scalar for scalar in _SCALARS if scalar in (*members, type(parameter.default))]
        if parameter.kind is parameter.KEYWORD_ONLY and name not in NOT_SETTABLE and allowed:
            optional = type(None) in members or parameter.default is None
            keywords[name] = (_Kind(allowed[0], optional=optional), parameter.default)
    return keywords


def _value(name: str, kind: _Kind, default: Any, given: Mapping[str, str]) -> Any:
    if name in given:
        return _parse(name, kind, given[name])
    if default is _REQUIRED:
        raise UsageError(f"--{name} is needed: {kind}")
    return default


def _parse(name: str, kind: _Kind, text: str) -> Any:
    # A choice of that name is the choice; then leaving the option out is the way to give nothing.
    if kind.optional and text.lower() == "none" and "none" not in (kind.choices or ()):
        return None
    if not kind.is_tuple:
        return _scalar(name, kind, text)
    return tuple(_scalar(name, kind, part) for part in text.split(",") if text)


def _scalar(name: str, kind: _Kind, text: str) -> Any:
    try:
        return _as_bool(text) if kind.base is bool else kind.base(text)
    except ValueError:
        message = f"--{name} takes {kind}, got {text!r}, which is {_looks_like(text)}"
        raise UsageError(message) from None


def _as_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _looks_like(text: str) -> str:
    for convert in (int, float, _as_bool):
        try:
            return type(convert(text)).__name__
        except ValueError:
            pass
    return "str"


def _name_of(default: Any, name: str, kind: _Kind) -> str | None:
    """The name of a default among its choices."""
    if default is None or default is _REQUIRED:
        return default
    for choice, function in kind.choices.items():
        if function is default:
            return choice
    raise TypeError(f"the default of argument {name} is not one of its choices")


def _choice(name: str, kind: _Kind, default: Any, given: Mapping[str, str]) -> str | None:
    choice = _value(name, kind, default, given)
    if choice is not None:
        look_up(kind.choices, choice, f"--{name}")
    return choice


def _configured(
    name: str, kind: _Kind, choice: str | None, own: Mapping[str, str]
) -> tuple[Callable | None, dict[str, Any], dict[str, Any]]:
    """The chosen function with its keywords set, all its keywords, and their defaults."""
    if choice is None:
        if own:
            raise UsageError(f"--{name}.{next(iter(own))} needs --{name} NAME; it is {kind}")
        return None, {}, {}
    keywords = _keywords(kind.choices[choice])
    for keyword in own:
        if keyword not in keywords:
            close = close_names(keyword, keywords)
            raise UsageError(f"--{name}.{keyword}: {choice} has no such keyword; {close}")
    settings = {
        keyword: _parse(f"{name}.{keyword}", keywords[keyword][0], text)
        for keyword, text in own.items()
    }
    function = kind.choices[choice]
    if settings:
        function = functools.partial(function, **settings)
    defaults = {k: default for k, (_, default) in keywords.items()}
    plain = {k: d for k, d in defaults.items() if d is None or isinstance(d, _SCALARS)}
    return function, plain | settings, defaults


def close_names(name: str, names: Iterable[str]) -> str:
    """What to say where a name is unknown: the nearest right ones, or all."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there is {', '.join(names) or 'none'}"


def _describe_choices(option: str, choices: Mapping[str, Callable]) -> str:
    lines = [f"choices of --{option}:"]
    for choice, function in choices.items():
        lines.append(f"  {choice:14s} {first_line(function)}".rstrip())
        for keyword, (kind, default) in _keywords(function).items():
            lines.append(f"    --{option}.{keyword} {kind} ({_default_text(default)})")
    return "\n".join(lines)


def _default_text(default: Any) -> str:
    return "required" if default is _REQUIRED else f"default: {as_text(default)}"


def _docstring(experiment: Callable) -> tuple[str, dict[str, str]]:
    """The docstring without its `Args:` section, and that section as a dict."""
    return _section(inspect.getdoc(experiment) or "", "Args")


def _section(text: str, name: str) -> tuple[str, dict[str, str]]:
    """A docstring without one of its sections, and that section as a dict."""
    match = re.search(rf"^{name}:\n((?:[ \t]+.*\n?|\n)*)", text, flags=re.MULTILINE)
    if match is None:
        return text.strip(), {}
    section = inspect.cleandoc("\n" + match[1])
    entries = re.findall(r"^(\w+)[^:\n]*: *((?:.*)(?:\n[ \t]+.*)*)", section, flags=re.MULTILINE)
    described = {name: " ".join(words.split()) for name, words in entries}
    return (text[: match.start()] + text[match.end() :]).strip(), described
