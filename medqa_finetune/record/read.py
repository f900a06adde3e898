"""Reads records and JSON Lines, and refuses torn or malformed ones with file, line, key and value."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from medqa_finetune.compat.pydantic import fault_of
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.schema import READABLE_VERSIONS, SCHEMA_VERSION, Evaluation, Record

T = TypeVar("T")
REMEDIES: dict[Any, str] = {
    Record: "Put the file back, or move the run's folder away and give the command again.",
    Evaluation: "Put the file back, or remove the folder it lies in and give the command again: answers of other "
    "evaluations are used again, and nothing is trained.",
}


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_record(path: Path) -> Record:
    """Read a `record.json`; for one of version 1, later fields have their defaults.

    Raises:
        DataError: the file is torn, of another schema, or has a value of the wrong type or size; names the place.
    """
    return _read(path, Record, READABLE_VERSIONS)


def read_evaluation(path: Path) -> Evaluation:
    """Read an `evaluation.json`.

    Raises:
        DataError: the file is torn, of another schema, or has a value of the wrong type or size; names the place.
    """
    return _read(path, Evaluation, (SCHEMA_VERSION,))


def _read(path: Path, kind: type[T], versions: tuple[int, ...]) -> T:
    remedy = REMEDIES[kind]
    try:
        text = path.read_bytes()
        content = json.loads(text, parse_constant=_no_constant, parse_int=_int64, parse_float=_finite)
    except OSError as error:
        raise DataError(Fault("not-readable", f"cannot be read ({error.strerror})", file=str(path))) from None
    except (ValueError, RecursionError) as error:
        raise DataError(Fault("not-json", f"not a whole JSON file ({error})", file=str(path), hint=remedy)) from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int or version not in versions:
        raise DataError(
            Fault(
                "schema-version",
                "this version of the package does not read it",
                file=str(path),
                key="schema_version",
                got=version,
                allowed=tuple(map(str, versions)),
            )
        )
    try:
        # Strict: "0" is not a number. Parsed from text, since in strict mode a dictionary is not a dataclass.
        found: T = _adapter(cast("Any", kind)).validate_json(text, strict=True)
    except ValidationError as error:
        raise DataError(fault_of(error).but(file=str(path), hint=remedy)) from None
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _int64(digits: str) -> int:
    # Integer columns of tables have 64 bits; this package never writes larger counts.
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"{digits[:24]}… is too large a number")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:24]} is too large a number")
    return number


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines that this package wrote; an incomplete last line, left by a crash, is ignored.

    Raises:
        DataError: another line is not a JSON object; names the line.
    """
    rows = []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for number, line in enumerate(whole.split(b"\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(Fault("not-json", f"not JSON ({error})", file=str(path), line_number=number)) from None
        if not isinstance(row, dict):
            raise DataError(Fault("wrong-type", "must be a JSON object", got=row, file=str(path), line_number=number))
        rows.append(row)
    return rows
