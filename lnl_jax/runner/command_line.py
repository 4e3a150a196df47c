"""From the words of a command line, or a sweep's values, to the checked arguments of one run."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from lnl_jax.runner.arguments import close_names
from lnl_jax.runner.signatures import (
    REQUIRED,
    SCALARS,
    Kind,
    groups_of,
    keywords_of,
    name_of,
    options_of,
)
from lnl_jax.runner.usage import UsageError, as_text, look_up


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


def _unknown(experiment: str, name: str, options: Iterable[str], groups: Mapping[str, type]) -> str:
    """What to say of an option that there is not."""
    group = name.partition(".")[0]
    if group not in groups:
        return f"{experiment} has no argument --{name}; {close_names(name, options)}"
    fields = [f"{group}.{field}" for field in groups[group]._fields]
    given = "takes no value itself" if name == group else f"has no --{name}"
    return f"--{group} {given}; {close_names(name, fields)}"


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
    plain = {k: d for k, d in defaults.items() if d is None or isinstance(d, SCALARS)}
    return function, plain | settings, defaults
