"""An answer: what a model said to one question, beside what it should have said."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from medqa_finetune.errors import DataError

PREDICTION_KEYS = ("prediction", "hyp")
KEYS_SHOWN = 12
REFERENCE_KEYS = ("reference", "references", "refs")
# Whole numbers beyond fit neither a table's column nor, at some size, a float.
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one question.

    Attributes:
        id: Unique among the answers of a run.
        question: What was asked; empty when it is not known.
        references: Right answers, one at least; each may be empty (it then scores 0).
        prediction: What the model said; may be empty (it then scores 0, and is never left out).
        hit_limit: Whether it was cut at `evaluate.max_new_tokens`; None when not known.
        timed_out: Whether it was cut off by `evaluate.timeout_seconds`; None when not known.
        prediction_tokens: Tokens generated, padding not counted.
        reference_nll: Negative log-likelihood of the first reference under the model, summed over its tokens, in nats.
        reference_tokens: Number of those tokens.
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


def to_row(answer: Answer) -> dict[str, Any]:
    """Return the line of `predictions.jsonl` for an answer: one reference as `reference`, more as `references`."""
    one = len(answer.references) == 1
    row: dict[str, Any] = {"id": answer.id, "question": answer.question}
    row |= {"reference": answer.references[0]} if one else {"references": list(answer.references)}
    row["prediction"] = answer.prediction
    for key in ("hit_limit", "timed_out", "prediction_tokens", "reference_nll", "reference_tokens"):
        row[key] = getattr(answer, key)
    return row


def from_row(row: dict[str, Any], where: str) -> Answer:
    """Return the answer in a row; keys that are not an answer's are ignored.

    Args:
        row: `id`, `question`, `reference` or `references`, `prediction`; `refs` and `hyp` are taken for the last two.
        where: `file:line`, for messages. The part behind the last colon is the id of a row without one.

    Raises:
        DataError: no prediction or reference, or a value of the wrong type; says where, which key, what was found.
    """
    prediction_key = _only_key(row, PREDICTION_KEYS, where)
    nll, tokens = _optional(row, "reference_nll", float, where), _optional(row, "reference_tokens", int, where)
    if (nll is None) != (tokens is None):
        _refuse(where, "reference_nll", nll, "a number together with reference_tokens, or neither")
    if tokens == 0:
        _refuse(where, "reference_tokens", tokens, "a whole number from 1")
    return Answer(
        id=_id(row, where),
        question=_text(row["question"], "question", where) if row.get("question") is not None else "",
        references=_references(row, where),
        prediction=_text(row[prediction_key], prediction_key, where),
        hit_limit=_optional(row, "hit_limit", bool, where),
        timed_out=_optional(row, "timed_out", bool, where),
        prediction_tokens=_optional(row, "prediction_tokens", int, where),
        reference_nll=nll,
        reference_tokens=tokens,
    )


def read_answers(path: Path) -> list[Answer]:
    """Read answers from JSON Lines in UTF-8 (a byte-order mark and blank lines are accepted).

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not JSON Lines, or a row is not an answer; says which line.
    """
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; JSON Lines with predictions are wanted.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); a file of JSON Lines is wanted.") from None
    return collect(_rows(path, content), path)


def collect(numbered_rows: Iterable[tuple[int, dict[str, Any]]], path: Path) -> list[Answer]:
    """Turn rows, each with its line number, into answers.

    Raises:
        DataError: there is no row, a row is not an answer, or two have one id.
    """
    answers: list[Answer] = []
    lines: dict[str, int] = {}
    for number, row in numbered_rows:
        answer = from_row(row, f"{path}:{number}")
        if answer.id in lines:
            _refuse(f"{path}:{number}", "id", answer.id, f"another one (line {lines[answer.id]} has this)")
        lines[answer.id] = number
        answers.append(answer)
    if not answers:
        raise DataError(f"{path}: holds no answers; one JSON object per line is wanted.")
    return answers


def _rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    # Split at line feeds alone: U+2028 and its like may stand inside an answer.
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            text = line.decode("utf-8")
            if not text.strip():
                continue
            row = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8.") from None
        except json.JSONDecodeError as error:
            what = f"{error.msg}, character {error.colno}"
            raise DataError(f"{path}:{number}: not JSON ({what}); one JSON object per line is wanted.") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not JSON ({error}); one JSON object per line is wanted.") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: got {_shown(row)}; one JSON object per line is wanted.")
        yield number, row


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of two equal keys and says nothing.
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key is given twice")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _only_key(row: dict[str, Any], keys: tuple[str, ...], where: str) -> str:
    found = [key for key in keys if key in row]
    if len(found) != 1:
        wanted = " or ".join(keys)
        named = ", ".join(key if key.isidentifier() else _shown(key) for key in list(row)[:KEYS_SHOWN])
        raise DataError(f"{where}: {wanted}: exactly one of them is wanted; the row has {named[:200] or 'no key'}.")
    return found[0]


def _id(row: dict[str, Any], where: str) -> str:
    value = row.get("id")
    if value is None:
        return where.rpartition(":")[2]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, "id", where)


def _references(row: dict[str, Any], where: str) -> tuple[str, ...]:
    key = _only_key(row, REFERENCE_KEYS, where)
    value = row[key]
    if key == "reference" and not isinstance(value, str):
        _refuse(where, key, value, "text (several go into a list under `references`)")
    values = [value] if key == "reference" else value
    if not isinstance(values, list) or not values:
        _refuse(where, key, value, "a list of texts, one at least")
    return tuple(_text(reference, key, where) for reference in values)


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        _refuse(where, key, value, "text (it may be empty)")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        _refuse(where, key, ascii(value), "text without half a surrogate pair")
    return str(value)


def _optional(row: dict[str, Any], key: str, kind: type[Any], where: str) -> Any:
    value = row.get(key)
    if value is None or (kind is bool and isinstance(value, bool)):
        return value
    if kind is not bool and not isinstance(value, bool):
        if isinstance(value, int) and 0 <= value <= LARGEST:
            return kind(value)
        if kind is float and isinstance(value, float) and math.isfinite(value) and value >= 0:
            return value
    wanted = {bool: "true or false", int: "a whole number from 0", float: "a number from 0"}[kind]
    return _refuse(where, key, value, f"{wanted}, or null")


def _refuse(where: str, key: str, value: Any, wanted: str) -> NoReturn:
    raise DataError(f"{where}: {key} is {_shown(value)}; {wanted} is wanted.")


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
