"""Reading back what a run left: whole and well-formed, or refused with the place and the value."""

import json
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
        DataError: the file is torn, of another schema, or holds a value of the wrong type; says where.
    """
    try:
        content = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not a whole JSON file ({error}). Move the folder away and run the cell again."
        ) from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"{path}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}.")
    try:
        return _record_adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {key} is {first['input']!r}: {first['msg']}.") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


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
