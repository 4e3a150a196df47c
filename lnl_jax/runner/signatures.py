"""What the signature of an experiment lets the command line set: names, types, choices."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

# Keywords that are handed to an experiment by the runner, not chosen by its configuration.
NOT_OPTIONS = ("resume", "data_dir")
# Keywords of a chosen function that the experiment itself sets.
NOT_SETTABLE = ("axis", "where")
REQUIRED = inspect.Parameter.empty
SUPPLIED = object()  # the default of a keyword that the experiment sets unless it is given
SCALARS = (float, int, bool, str)  # where a union allows several, the first of them


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


def takes(experiment: Callable, name: str) -> bool:
    """Whether the experiment has this argument."""
    return name in inspect.signature(experiment).parameters


def name_of(default: Any, name: str, kind: Kind) -> str | None:
    """The name of a default among its choices."""
    if default is REQUIRED or (default is None and None not in kind.choices.values()):
        return default
    for choice, function in kind.choices.items():
        if function is default:
            return choice
    raise TypeError(f"the default of argument {name} is not one of its choices")


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
        allowed = [scalar for scalar in SCALARS if scalar in (*members, type(parameter.default))]
        if parameter.kind is parameter.KEYWORD_ONLY and name not in fixed and allowed:
            optional = type(None) in members or parameter.default is None
            default = SUPPLIED if name in own else parameter.default
            keywords[name] = (Kind(allowed[0], optional=optional), default)
    return keywords


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
    if len(members) == 1 and members[0] in SCALARS:
        return Kind(members[0], optional=optional)
    base, *rest = typing.get_args(members[0]) or (None,)
    if typing.get_origin(members[0]) is tuple and base in (float, int, str) and rest == [...]:
        return Kind(base, is_tuple=True, optional=optional)
    found = "none" if annotation is None else annotation
    raise TypeError(
        f"argument {name} needs a type that a command line can give, got {found}: annotate it as "
        "int, float, bool or str, or a tuple such as tuple[int, ...]; each may be None as well."
    )


def _members(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)
