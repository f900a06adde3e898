"""Faults as data, and the four kinds of errors with their exit codes.

An error carries its faults. A fault says what is wrong, where (file, line, key), the value got, what is allowed, and
what to do; `Fault.line` and `Fault.shown_line` alone make a sentence of it. Commands print these lines without a
traceback, in the chosen language; `format=json` prints the fields, and a record keeps them, in English. No code reads a
line back.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from medqa_finetune.languages.choice import chosen
from medqa_finetune.languages.translate import Kind, translation

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

EXIT_DONE = 0
EXIT_RUN_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
# Code of the fault that a process of another machine works on a run that is kept at a storage.
HELD_ELSEWHERE = "held-elsewhere"

# Most characters of a value in a line.
SHOWN_CHARACTERS = 240


class _NoValue:
    """Type of `NO_VALUE`: no value was given. None is a value."""

    def __repr__(self) -> str:
        return "NO_VALUE"

    def __reduce__(self) -> str:
        return "NO_VALUE"


NO_VALUE: Final = _NoValue()


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        code: Kind of fault in kebab case, `file-missing`; programs and tests rely on it, so it never changes.
        problem: What is wrong, a clause without a full stop: `must be an integer ≥ 1`, `no such file or folder`.
        key: Setting, option, column or field, as it is typed or written in the file.
        got: The value found; `NO_VALUE` where there is none to show.
        allowed: The allowed values, where they can be listed.
        hint: What to do about it, in whole sentences; empty where `problem` says it.
        file: Path of the file or folder at fault.
        line: Line in that file, from 1.
    """

    code: str
    problem: str
    _: dataclasses.KW_ONLY
    key: str | None = None
    got: object = NO_VALUE
    allowed: tuple[str, ...] = ()
    hint: str = ""
    file: str | None = None
    line_number: int | None = None

    def line(self) -> str:
        """Return the fault as a line: `[file:line: ][key[=value]: ]problem[ (got value)][; allowed: a, b].[ Hint.]`."""
        head, got = self._head(), self._bare_got()
        bare = f" (got {got})" if got else ""
        choices = f"; allowed: {', '.join(self.allowed)}" if self.allowed else ""
        said = f"{head}{self.problem}{bare}{choices}"
        # Messages of libraries may already end in a full stop.
        return said + ("" if said.endswith(".") else ".") + (f" {self.hint}" if self.hint else "")

    def shown_line(self) -> str:
        """Return the fault as a line in the chosen language; problem and hint in English where one has no translation.

        For people alone: what is kept or read again is `line`.
        """
        if chosen() == "en":
            return self.line()
        problem = translation(self.problem, Kind.FAULT)
        hint = translation(self.hint, Kind.FAULT) if self.hint else ""
        if problem is None or hint is None:
            problem, hint = self.problem, self.hint
        got = self._bare_got()
        bare = f"（实际为 {got}）" if got else ""
        choices = f"；可选值：{'、'.join(self.allowed)}" if self.allowed else ""
        said = f"{self._head()}{problem}{bare}{choices}"
        if problem is self.problem and not (bare or choices):
            return said + ("" if said.endswith(".") else ".") + (f" {hint}" if hint else "")
        return said + ("" if said.endswith(("。", ".")) else "。") + hint

    def _head(self) -> str:
        """Return where it is and what was set: `file:line: key=value: `."""
        place = self.file if self.line_number is None else f"{self.file}:{self.line_number}"
        got = "" if self.got is NO_VALUE else brief(self.got)
        setting = f"{self.key}={got}" if self.key and got else self.key
        return "".join(f"{part}: " for part in (place, setting) if part)

    def _bare_got(self) -> str:
        """Return the value got where no key stands before it."""
        return "" if self.got is NO_VALUE or self.key else brief(self.got)

    def but(self, **changes: Any) -> "Fault":
        """Return a copy with other fields."""
        return dataclasses.replace(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with `message`, the line.

        A field that says nothing is null; `got` is left out then, since null may be the value got.
        """
        got = {} if self.got is NO_VALUE else {"got": _json_value(self.got)}
        return {
            "code": self.code,
            "message": self.line(),
            "problem": self.problem,
            "key": self.key,
            **got,
            "allowed": list(self.allowed) or None,
            "hint": self.hint or None,
            "file": self.file,
            "line": self.line_number,
        }

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> "CoreSchema":
        from pydantic_core import core_schema

        write = core_schema.plain_serializer_function_ser_schema(cls.as_json)
        return core_schema.no_info_plain_validator_function(cls.from_json, serialization=write)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Fault":
        """Return the fault that `as_json` turned into these fields."""
        return cls(
            fields["code"],
            fields["problem"],
            key=fields["key"],
            got=fields.get("got", NO_VALUE),
            allowed=tuple(fields["allowed"] or ()),
            hint=fields["hint"] or "",
            file=fields["file"],
            line_number=fields["line"],
        )


def brief(value: object) -> str:
    """Return a value as shown in a message: one line of at most `SHOWN_CHARACTERS` characters."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        text = value if value.isprintable() and value.strip() == value and value else repr(value)
    elif isinstance(value, list | tuple):
        text = f"[{','.join(map(brief, value))}]"
    else:
        text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _json_value(value: object) -> object:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)
    return value


def distinct(faults: Iterable[Fault]) -> list[Fault]:
    """Return faults without those whose line equals an earlier one."""
    kept: dict[str, Fault] = {}
    for fault in faults:
        kept.setdefault(fault.line(), fault)
    return list(kept.values())


class MedQAError(Exception):
    """Base of the errors that this package raises on purpose.

    Attributes:
        faults: One fault or more.
    """

    exit_code = EXIT_RUN_FAILED

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(fault.line() for fault in distinct(self.faults))

    def shown(self) -> str:
        """Return the faults in the chosen language, one a line."""
        return "\n".join(fault.shown_line() for fault in distinct(self.faults))

    def as_json(self) -> dict[str, Any]:
        """Return the object that `format=json` prints."""
        faults = [fault.as_json() for fault in distinct(self.faults)]
        return {"error": type(self).__name__, "exit_code": self.exit_code, "faults": faults}

    def _render_traceback_(self) -> list[str]:
        # IPython shows this instead of a traceback, which does not help to correct the input.
        return [f"{type(self).__name__}: {self.shown()}"]


class ConfigError(MedQAError):
    """A setting is unknown, of the wrong type, or impossible."""

    exit_code = EXIT_BAD_INPUT


class DataError(MedQAError):
    """A corpus, prediction or record file cannot be used."""

    exit_code = EXIT_BAD_INPUT


class ModelError(MedQAError):
    """A model, tokenizer or adapter is missing or does not fit."""

    exit_code = EXIT_BAD_INPUT


class RunError(MedQAError):
    """A run started and could not be finished."""

    exit_code = EXIT_RUN_FAILED


@contextmanager
def noting(faults: list[Fault]) -> Iterator[None]:
    """Add the faults of an error in the block to `faults`, and continue after the block."""
    try:
        yield
    except MedQAError as error:
        faults.extend(error.faults)
