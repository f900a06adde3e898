"""Faults of keys that a dataclass schema does not have, and of values of the wrong type."""

import dataclasses
import difflib
import enum
import types
import typing
from collections.abc import Collection, Iterator
from typing import cast

from medqa_finetune.errors import Fault

# A type annotation: a class, a union, a generic such as `list[str]`.
Annotation: typing.TypeAlias = object
_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "null"}


def unknown_key(key: str, got: object, allowed: Collection[str]) -> Fault:
    """Return the fault of an unknown key, with a hint at the most similar allowed one."""
    named = [each for each in allowed if each.endswith(f".{key}")]
    close = named or difflib.get_close_matches(key.lstrip("+~-"), allowed, n=1)
    hint = f"Did you mean {close[0]}?" if close else ""
    return Fault("unknown-key", "there is no such key", key=key, got=got, allowed=tuple(allowed), hint=hint)


def unknown_value(
    key: str | None, got: object, allowed: Collection[str], *, hint: str = "", file: str | None = None
) -> Fault:
    """Return the fault of a value that is none of those allowed, with a hint at one that it may stand for."""
    hint = hint or meant_value(got, allowed)
    return Fault("not-allowed", "unknown value", key=key, got=got, allowed=tuple(allowed), hint=hint, file=file)


def meant_value(got: object, allowed: Collection[str]) -> str:
    """Return a hint at the allowed value that differs from another in case or a few letters alone; empty for none."""
    lowered = {each.lower(): each for each in allowed}
    close = difflib.get_close_matches(str(got).lower(), lowered, n=1, cutoff=0.8)
    return f"Did you mean {lowered[close[0]]}?" if close else ""


def type_fault(hint: Annotation, key: str | None, got: object) -> Fault:
    """Return the fault of a value that has none of the types of an annotation."""
    members = tuple(_members(hint))
    if members:
        return unknown_value(key, got, members)
    return Fault("wrong-type", f"must be {type_name(hint)}", key=key, got=got, hint=_meant_list(hint, key, got))


def _meant_list(hint: Annotation, key: str | None, got: object) -> str:
    """Return a hint where one value was given for a list, or a list for one value; empty elsewhere."""
    takes_list = any(typing.get_origin(each) is list for each in alternatives(hint))
    if key and takes_list and isinstance(got, str) and got:
        return f"Did you mean {key}=[{got}]?"
    plain = [str(each) for each in got if isinstance(each, bool | int | float | str)] if isinstance(got, list) else []
    if key and not takes_list and len(plain) > 1 and len(plain) == len(cast(list[object], got)):
        return f"One run per value: -m {key}={','.join(plain)}."
    return ""


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
