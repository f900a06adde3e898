"""Reading back what a run left: whole and well-formed, or refused with the place and the value."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from medqa_finetune.errors import DataError
from medqa_finetune.record.schema import SCHEMA_VERSION, Record


@cache
def _record_adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def read_record(path: Path) -> Record:
    """Read a `record.json`.

    Raises:
        DataError: the file is torn, of another schema, or holds a value of the wrong type or size; says where.
    """
    try:
        text = path.read_bytes()
        content = json.loads(text, parse_constant=_no_constant, parse_int=_int64, parse_float=_finite)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not a whole JSON file ({error}). Move the folder away and run the cell again."
        ) from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"{path}: schema_version is {repr(version)[:60]}, this version reads {SCHEMA_VERSION}.")
    try:
        # Strict: "0" is no number. From the text, since a dataclass is not strictly a dictionary.
        return _record_adapter().validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        got = "missing" if first["type"] == "missing" else f"{repr(first['input'])[:60]}: {first['msg']}"
        raise DataError(f"{path}: {key} is {got}.") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _int64(digits: str) -> int:
    # What a table's integer column can hold; a count beyond it was never written by this package.
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"{digits[:24]}… is too large a number")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:24]} is too large a number")
    return number


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines that this package wrote; a last line without its line break was torn by a crash and is left out.

    Raises:
        DataError: another line is not a JSON object; says which.
    """
    rows = []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for number, line in enumerate(whole.split(b"\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not JSON ({error}).") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: a JSON object is wanted, got {line[:40]!r}.")
        rows.append(row)
    return rows
