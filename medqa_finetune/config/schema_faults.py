"""Faults of keys that a dataclass schema does not have, and of values of the wrong type."""

import dataclasses
import difflib
import enum
import types
import typing
from collections.abc import Collection, Iterator

from medqa_finetune.errors import Fault

# A type annotation: a class, a union, a generic such as `list[str]`.
Annotation: typing.TypeAlias = object
_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "null"}


def unknown_key(key: str, got: object, allowed: Collection[str]) -> Fault:
    """Return the fault of an unknown key, with a hint at the most similar allowed one."""
    close = difflib.get_close_matches(key.lstrip("+~-"), allowed, n=1)
    hint = f"Did you mean {close[0]}?" if close else ""
    return Fault("unknown-key", "there is no such key", key=key, got=got, allowed=tuple(allowed), hint=hint)


def type_fault(hint: Annotation, key: str | None, got: object) -> Fault:
    """Return the fault of a value that has none of the types of an annotation."""
    members = tuple(_members(hint))
    if members:
        return Fault("not-allowed", "unknown value", key=key, got=got, allowed=members)
    return Fault("wrong-type", f"must be {type_name(hint)}", key=key, got=got)


def _members(hint: Annotation) -> Iterator[str]:
    for each in alternatives(hint):
        if isinstance(each, type) and issubclass(each, enum.Enum):
            yield from each.__members__


def alternatives(hint: Annotation) -> tuple[Annotation, ...]:
    """Return the types that an annotation allows: the members of a union, else the annotation itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def type_name(hint: Annotation) -> str:
    """Return an annotation in words: `an integer or null`."""
    return " or ".join(map(_name, alternatives(hint)))


def _name(hint: Annotation) -> str:
    if hint in _NAMES:
        return _NAMES[hint]
    is_mapping = dataclasses.is_dataclass(hint) or dict in (hint, typing.get_origin(hint))
    return "a mapping of keys to values" if is_mapping else "a list such as [a,b]"
