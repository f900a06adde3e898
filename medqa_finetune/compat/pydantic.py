"""Turns pydantic's validation errors into faults."""

from pydantic import ValidationError

from medqa_finetune.errors import NO_VALUE, Fault

# The beginning of pydantic's messages ("Input should be a valid integer"), and its replacement.
ITS_BEGINNING, OURS = "Input should be", "must be"


def fault_of(error: ValidationError) -> Fault:
    """Return pydantic's first error as a fault with code, key and value, without the file."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"])) or None
    if first["type"] == "missing":
        return Fault("missing-key", "is missing", key=key)
    if first["type"] == "json_invalid":
        return Fault("not-json", f"is not JSON ({first['ctx']['error']})")
    problem = first["msg"].replace(ITS_BEGINNING, OURS, 1).rstrip(".")
    return Fault("wrong-type", problem, key=key, got=NO_VALUE if key is None else first["input"])
