"""Predictions: reading and writing the rows of `predictions.jsonl`."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from medqa_finetune.errors import DataError, Fault, brief

PREDICTION_KEYS = ("prediction", "hyp")
KEYS_SHOWN = 12
READABLE = "Give a file of predictions as JSON Lines, a JSON array or CSV, in UTF-8."
ONE_A_LINE = "Write one JSON object per line."
REFERENCE_KEYS = ("reference", "references", "refs")
# Larger integers fit neither int64 columns nor, from some size on, a float.
LARGEST = 2**63 - 1

# (file, line number from 1)
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's prediction for one question.

    Attributes:
        id: Unique among the predictions of a run.
        question: The question; empty if unknown.
        references: Correct answers, at least one; an empty one scores 0.
        prediction: The generated text; an empty one scores 0 and is never left out.
        hit_limit: Whether it was cut at `evaluate.max_new_tokens`; None if unknown.
        timed_out: Whether it was cut off by `evaluate.timeout_seconds`; None if unknown.
        prediction_tokens: Generated tokens without padding; None if unknown.
        reference_nll: Negative log-likelihood of the first reference under the model, summed over its tokens, in nats.
        reference_tokens: Number of those tokens.
        thought: The thought that the model wrote before the prediction; None if it writes none.
        thought_unclosed: Whether it did not close the thought, so that the prediction is empty; None as above.
        prompt_cut: Whether the question was asked cut, to fit `train.max_length`; None if unknown.
        reference_cut: Whether `reference_nll` is that of the reference's beginning, likewise.
    """

    id: str
    question: str
    references: tuple[str, ...]
    prediction: str
    hit_limit: bool | None = None
    timed_out: bool | None = None
    prediction_tokens: int | None = None
    reference_nll: float | None = None
    reference_tokens: int | None = None
    thought: str | None = None
    thought_unclosed: bool | None = None
    prompt_cut: bool | None = None
    reference_cut: bool | None = None


def to_row(prediction: Prediction) -> dict[str, Any]:
    """Return the `predictions.jsonl` row of a prediction: one reference as `reference`, several as `references`."""
    one = len(prediction.references) == 1
    row: dict[str, Any] = {"id": prediction.id, "question": prediction.question}
    row |= {"reference": prediction.references[0]} if one else {"references": list(prediction.references)}
    row["prediction"] = prediction.prediction
    for key in ("hit_limit", "timed_out", "prediction_tokens", "reference_nll", "reference_tokens"):
        row[key] = getattr(prediction, key)
    for key in ("thought", "thought_unclosed", "prompt_cut", "reference_cut"):
        if (value := getattr(prediction, key)) is not None:
            row[key] = value
    return row


def from_row(row: dict[str, Any], place: Place) -> Prediction:
    """Return the prediction of a row; keys that a prediction does not have are ignored.

    Args:
        row: `id`, `question`, `reference` or `references`, `prediction`; `refs` and `hyp` are accepted for the last
            two.
        place: File and line, for faults. Without an `id` in the row, the line number is used.

    Raises:
        DataError: prediction or references are missing, or a value has the wrong type.
    """
    prediction_key = _only_key(row, PREDICTION_KEYS, place)
    nll, tokens = _optional(row, "reference_nll", float, place), _optional(row, "reference_tokens", int, place)
    if (nll is None) != (tokens is None):
        _refuse(
            place, "reference_nll", nll, "must be a number together with reference_tokens, or neither", "missing-key"
        )
    if tokens == 0:
        _refuse(place, "reference_tokens", tokens, "must be an integer ≥ 1", "out-of-range")
    return Prediction(
        id=_id(row, place),
        question=_text(row["question"], "question", place) if row.get("question") is not None else "",
        references=_references(row, place),
        prediction=_text(row[prediction_key], prediction_key, place),
        hit_limit=_optional(row, "hit_limit", bool, place),
        timed_out=_optional(row, "timed_out", bool, place),
        prediction_tokens=_optional(row, "prediction_tokens", int, place),
        reference_nll=nll,
        reference_tokens=tokens,
        thought=_text(row["thought"], "thought", place) if row.get("thought") is not None else None,
        thought_unclosed=_optional(row, "thought_unclosed", bool, place),
        prompt_cut=_optional(row, "prompt_cut", bool, place),
        reference_cut=_optional(row, "reference_cut", bool, place),
    )


def read_predictions(path: Path) -> list[Prediction]:
    """Read predictions from UTF-8 JSON Lines; a byte-order mark and blank lines are accepted.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not JSON Lines, or a row is not a prediction; names the
            line.
    """
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError:
        raise DataError(Fault("file-missing", "no such file", file=str(path), hint=READABLE)) from None
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise DataError(Fault("not-readable", problem, file=str(path), hint=READABLE)) from None
    return collect(json_lines(path, content), path)


def collect(
    numbered_rows: Iterable[tuple[int, dict[str, Any]]], path: Path, *, by_place: bool = False
) -> list[Prediction]:
    """Convert (line number, row) tuples into predictions.

    Args:
        numbered_rows: Each with its line.
        path: Their file, for faults.
        by_place: Whether rows are numbered by their place, as in a JSON array, of which a line may hold several.

    Raises:
        DataError: there is no row, a row is not a prediction, or two have the same id.
    """
    predictions: list[Prediction] = []
    numbers: dict[str, int] = {}
    for place, (line, row) in enumerate(numbered_rows, start=1):
        number = place if by_place else line
        named = {**row, "id": str(place)} if by_place and row.get("id") is None else row
        try:
            prediction = from_row(named, (str(path), line))
            if prediction.id in numbers:
                problem = f"must be unique; {'row' if by_place else 'line'} {numbers[prediction.id]} has it too"
                _refuse((str(path), line), "id", prediction.id, problem, "repeated")
        except DataError as error:
            raise DataError(*(in_row(fault, place) for fault in error.faults) if by_place else error.faults) from None
        numbers[prediction.id] = number
        predictions.append(prediction)
    if not predictions:
        raise DataError(Fault("no-answers", "there are no answers in it", file=str(path), hint=ONE_A_LINE))
    return predictions


def in_row(fault: Fault, place: int) -> Fault:
    """Return a fault of a row that also names the row by its place, from 1."""
    return fault.but(problem=f"{fault.problem} (row {place})")


def json_lines(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and row of the JSON Lines in a file's bytes; blank lines are skipped.

    Raises:
        DataError: a line is not UTF-8, or not a JSON object.
    """
    # Not splitlines(): U+2028 and similar characters may occur inside a prediction.
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            text = line.decode("utf-8")
            if not text.strip():
                continue
            row = parse_json(text)
        except UnicodeDecodeError as error:
            fault = Fault("not-utf8", f"not UTF-8 ({error.reason})", hint="Save the file as UTF-8.")
            raise DataError(fault.but(file=str(path), line_number=number)) from None
        except json.JSONDecodeError as error:
            raise DataError(_not_json(path, number, f"{error.msg}, character {error.colno}")) from None
        except (ValueError, RecursionError) as error:
            raise DataError(_not_json(path, number, str(error))) from None
        if not isinstance(row, dict):
            fault = Fault("wrong-type", "must be a JSON object", got=row, hint=ONE_A_LINE)
            raise DataError(fault.but(file=str(path), line_number=number))
        yield number, row


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON, or has a key twice or a number that JSON does not know.
    """
    return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)


def _not_json(path: Path, number: int, reason: str) -> Fault:
    return Fault("not-json", f"not JSON ({reason})", file=str(path), line_number=number, hint=ONE_A_LINE)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json silently keeps the last of two equal keys.
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key is given twice")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _only_key(row: dict[str, Any], keys: tuple[str, ...], place: Place) -> str:
    found = [key for key in keys if key in row]
    if len(found) != 1:
        named = ", ".join(map(brief, list(row)[:KEYS_SHOWN]))
        raise DataError(Fault(
            "conflict" if found else "missing-key",
            f"exactly one of {' and '.join(keys)} must be given; the row has {named[:200] or 'no key'}",
            key=keys[0], file=place[0], line_number=place[1],
        ))  # fmt: skip
    return found[0]


def _id(row: dict[str, Any], place: Place) -> str:
    value = row.get("id")
    if value is None:
        return str(place[1])
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, "id", place)


def _references(row: dict[str, Any], place: Place) -> tuple[str, ...]:
    key = _only_key(row, REFERENCE_KEYS, place)
    value = row[key]
    if key == "reference" and not isinstance(value, str):
        _refuse(place, key, value, "must be text (several go into a list under `references`)")
    values = [value] if key == "reference" else value
    if not isinstance(values, list) or not values:
        _refuse(place, key, value, "must be a list of at least one text")
    return tuple(_text(reference, key, place) for reference in values)


def _text(value: Any, key: str, place: Place) -> str:
    if not isinstance(value, str):
        _refuse(place, key, value, "must be text (it may be empty)")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        _refuse(place, key, value, "must be text without half a surrogate pair", "lone-surrogate")
    return str(value)


def _optional(row: dict[str, Any], key: str, kind: type[Any], place: Place) -> Any:
    value = row.get(key)
    if value is None or (kind is bool and isinstance(value, bool)):
        return value
    if kind is not bool and not isinstance(value, bool):
        if isinstance(value, int) and 0 <= value <= LARGEST:
            return kind(value)
        if kind is float and isinstance(value, float) and math.isfinite(value) and value >= 0:
            return value
    allowed = {bool: "true or false", int: "an integer ≥ 0", float: "a number ≥ 0"}[kind]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    code = "out-of-range" if is_number and kind is not bool else "wrong-type"
    return _refuse(place, key, value, f"must be {allowed}, or null", code)


def _refuse(place: Place, key: str, value: Any, problem: str, code: str = "wrong-type") -> NoReturn:
    raise DataError(Fault(code, problem, key=key, got=value, file=place[0], line_number=place[1]))
