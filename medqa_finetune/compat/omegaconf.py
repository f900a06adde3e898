"""OmegaConf: undocumented fields of its errors, and how `load` refuses a file.

The classes of its errors are public. Messages are never parsed.
"""

import re
import typing
from dataclasses import dataclass
from enum import Enum
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    ConfigValueError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

# Interpolations of an environment variable without a default, and of another key, from the root.
VARIABLE = re.compile(r"\$\{\s*oc\.env:\s*['\"]?([^,{}\[\]'\"]+?)['\"]?\s*\}")
REFERENCE = re.compile(r"\$\{\s*(\w[\w.\[\]-]*)\s*\}")


class Kind(Enum):
    """What is wrong with a setting."""

    UNKNOWN_KEY = "unknown key"
    WRONG_VALUE = "wrong value"
    MISSING = "missing"
    UNRESOLVED = "unresolved"
    OTHER = "other"


# The order matters: an interpolated value of the wrong type raises an error of two of these classes.
KINDS = {
    MissingMandatoryValue: Kind.MISSING,
    ValidationError: Kind.WRONG_VALUE,
    ConfigTypeError: Kind.WRONG_VALUE,
    ConfigValueError: Kind.WRONG_VALUE,
    InterpolationResolutionError: Kind.UNRESOLVED,
    ConfigKeyError: Kind.UNKNOWN_KEY,
    ConfigAttributeError: Kind.UNKNOWN_KEY,
}


@dataclass(frozen=True)
class Refusal:
    """One setting that OmegaConf refuses.

    Attributes:
        kind: What is wrong with it.
        key: Its dotted key, such as `train.epochs` or `evaluate.metrics[0]`; empty where the error names none.
        value: The refused value; None for null, and where the error has none.
        hint: The type of the dataclass field; None where that is not known.
        written: The value before interpolation; None where that is not known.
    """

    kind: Kind
    key: str
    value: Any = None
    hint: object = None
    written: Any = None


def refusal_of(error: OmegaConfBaseException) -> Refusal:
    """Return the fields of an error; fields that the installed release does not set stay empty."""
    key = getattr(error, "key", None)
    full_key = getattr(error, "full_key", None) or ("" if key is None else str(key))
    return Refusal(
        kind=next((kind for each, kind in KINDS.items() if isinstance(error, each)), Kind.OTHER),
        key=str(full_key),
        value=_plain(getattr(error, "value", None)),
        hint=_hint(getattr(error, "object_type", None), key),
        written=_written(getattr(error, "parent_node", None), key),
    )


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value


def _hint(owner: Any, key: Any) -> Any:
    try:
        return typing.get_type_hints(owner).get(key)
    except (TypeError, NameError, AttributeError):  # the owner is not a class, or its annotations cannot be read
        return None


def _written(parent: Any, key: Any) -> Any:
    if key is None or not OmegaConf.is_config(parent):
        return None
    container: Any = OmegaConf.to_container(parent, resolve=False)
    try:
        return container[key]
    except (LookupError, TypeError):
        return None


def words_of(error: OmegaConfBaseException) -> str:
    """Return the first line of OmegaConf's message; the others repeat fields of the error."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def variables_of(text: str) -> list[str]:
    """Return the environment variables without a default in a text; errors have no field for them."""
    return VARIABLE.findall(text)


def references_of(text: str) -> list[str]:
    """Return the absolute keys that a text refers to; errors have no field for the missing one."""
    return REFERENCE.findall(text)


def is_no_mapping(error: OSError) -> bool:
    """Return whether `OmegaConf.load` refused a YAML file of a bare number; its OSError then has no errno."""
    return error.errno is None
