"""From the signature of an experiment and the words of a command line to checked arguments."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from lnl_jax.runner.arguments import close_names

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


class Supplied(NamedTuple):
    """What an experiment hands to a chosen function: the third part of ``Annotated``.

    Attributes:
      always: keywords that cannot be set.
      unless_given: by the name of the choice, keywords that the experiment sets, or searches among
        several values, unless they are given; their own defaults do not count.
    """

    always: Collection[str] = ()
    unless_given: Mapping[str, Collection[str]] = types.MappingProxyType({})


class Kind(NamedTuple):
    """The type of one argument."""

    base: type
    is_tuple: bool = False
    optional: bool = False
    choices: Mapping[str, Callable | None] | None = None
    supplied: Supplied = Supplied()

    def __str__(self) -> str:
        if self.choices is not None:
            text = "one of " + ", ".join(self.choices)
        elif self.is_tuple:
            text = f"comma-separated {self.base.__name__}s"
        else:
            text = {bool: "true or false"}.get(self.base, self.base.__name__)
        return text + " or none" * self.optional


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
    options, groups = options_of(experiment), groups_of(experiment)
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
        default_choice = name_of(default, name, kind)
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


def as_text(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(as_text, value))
    return str(value)


REQUIRED = inspect.Parameter.empty
SUPPLIED = object()  # the default of a keyword that the experiment sets unless it is given
_SCALARS = (float, int, bool, str)  # where a union allows several, the first of them


def options_of(experiment: Callable) -> dict[str, tuple[Kind, Any]]:
    """Type and default of every argument, or field of one, that the command line may set."""
    groups, options = groups_of(experiment), {}
    for name, parameter in inspect.signature(experiment).parameters.items():
        if name in groups:
            for field in groups[name]._fields:
                kind = _kind_of(f"{name}.{field}", groups[name], field)
                options[f"{name}.{field}"] = kind, getattr(parameter.default, field)
        elif name not in NOT_OPTIONS:
            options[name] = _kind_of(name, experiment, name), parameter.default
    return options


def groups_of(experiment: Callable) -> dict[str, type]:
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


def _kind_of(option: str, annotated: Callable | type, name: str) -> Kind:
    """The kind of what a signature, or a NamedTuple, annotates by this name."""
    with_extras = typing.get_type_hints(annotated, include_extras=True).get(name)
    # Without extras there are no ranges, which are for `arguments`.
    plain = typing.get_type_hints(annotated).get(name)
    return _choice_kind(option, with_extras) or _kind(option, plain)


def _choice_kind(name: str, annotation: Any) -> Kind | None:
    """The kind of an argument that is chosen by name; None of any other."""
    extras = getattr(annotation, "__metadata__", ())
    if not extras or not isinstance(extras[0], Mapping):
        return None
    optional = type(None) in _members(typing.get_args(annotation)[0])
    if optional and "none" in extras[0] and None not in extras[0].values():
        raise TypeError(f"argument {name}: none may mean a choice, or nothing, but not both")
    supplied = extras[1] if len(extras) > 1 else Supplied()
    return Kind(str, optional=optional, choices=extras[0], supplied=supplied)


def _kind(name: str, annotation: Any) -> Kind:
    members = [m for m in _members(annotation) if m is not type(None)]
    optional = len(members) < len(_members(annotation))
    if len(members) == 1 and members[0] in _SCALARS:
        return Kind(members[0], optional=optional)
    base, *rest = typing.get_args(members[0]) or (None,)
    if typing.get_origin(members[0]) is tuple and base in (float, int, str) and rest == [...]:
        return Kind(base, is_tuple=True, optional=optional)
    raise TypeError(f"argument {name}: {annotation} cannot be given on the command line")


def _members(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def keywords_of(kind: Kind, choice: str) -> dict[str, tuple[Kind, Any]]:
    """Type and default of the keywords of a choice that may be set and hold a single value."""
    function = annotated = kind.choices[choice]
    if function is None:
        return {}
    own = kind.supplied.unless_given.get(choice, ())
    fixed = {*NOT_SETTABLE, *kind.supplied.always}
    while isinstance(annotated, functools.partial):
        annotated = annotated.func
    hints = typing.get_type_hints(annotated)
    keywords = {}
    for name, parameter in inspect.signature(function).parameters.items():
        members = _members(hints.get(name))
        allowed = [scalar for scalar in _SCALARS if scalar in (*members, type(parameter.default))]
        if parameter.kind is parameter.KEYWORD_ONLY and name not in fixed and allowed:
            optional = type(None) in members or parameter.default is None
            default = SUPPLIED if name in own else parameter.default
            keywords[name] = (Kind(allowed[0], optional=optional), default)
    return keywords


def _value(name: str, kind: Kind, default: Any, given: Mapping[str, str]) -> Any:
    if name in given:
        return _parse(name, kind, given[name])
    if default is REQUIRED:
        raise UsageError(f"--{name} is needed: {kind}")
    return default


def _parse(name: str, kind: Kind, text: str) -> Any:
    # A choice of that name is the choice; then leaving the option out is the way to give nothing.
    if kind.optional and text.lower() == "none" and "none" not in (kind.choices or ()):
        return None
    if not kind.is_tuple:
        return _scalar(name, kind, text)
    return tuple(_scalar(name, kind, part) for part in text.split(",") if text)


def _scalar(name: str, kind: Kind, text: str) -> Any:
    try:
        value = _as_bool(text) if kind.base is bool else kind.base(text)
    except ValueError:
        message = f"--{name} takes {kind}, got {text!r}, which is {_looks_like(text)}"
        raise UsageError(message) from None
    if value != value:
        raise UsageError(f"--{name} takes {kind}, got {text!r}, which is not a number")
    return value


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


def name_of(default: Any, name: str, kind: Kind) -> str | None:
    """The name of a default among its choices."""
    if default is REQUIRED or (default is None and None not in kind.choices.values()):
        return default
    for choice, function in kind.choices.items():
        if function is default:
            return choice
    raise TypeError(f"the default of argument {name} is not one of its choices")


def _choice(name: str, kind: Kind, default: Any, given: Mapping[str, str]) -> str | None:
    choice = _value(name, kind, default, given)
    if choice is not None:
        look_up(kind.choices, choice, f"--{name}")
    return choice


def _configured(
    name: str, kind: Kind, choice: str | None, own: Mapping[str, str]
) -> tuple[Callable | None, dict[str, Any], dict[str, Any]]:
    """The chosen function with its keywords set, all its keywords, and their defaults."""
    if choice is None:
        if own:
            raise UsageError(f"--{name}.{next(iter(own))} needs --{name} NAME")
        return None, {}, {}
    keywords = keywords_of(kind, choice)
    for keyword in own:
        if keyword not in keywords:
            close = close_names(keyword, keywords)
            raise UsageError(f"--{name}.{keyword}: {choice} has no such keyword; {close}")
    settings = {
        keyword: _parse(f"{name}.{keyword}", keywords[keyword][0], text)
        for keyword, text in own.items()
    }
    function = kind.choices[choice]
    for keyword, (of, default) in keywords.items():
        if default is REQUIRED and keyword not in settings:
            raise UsageError(f"--{name} {choice} needs --{name}.{keyword}: {of}")
    if settings:
        function = functools.partial(function, **settings)
    defaults = {k: default for k, (_, default) in keywords.items()}
    plain = {k: d for k, d in defaults.items() if d is None or isinstance(d, _SCALARS)}
    return function, plain | settings, defaults
