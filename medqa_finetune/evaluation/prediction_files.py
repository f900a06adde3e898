"""Reads predictions as other programs write them: finds the keys of prediction, reference, question and id.

LLaMA-Factory (`prompt`, `predict`, `label`), ms-swift (`messages` or `query`, `response`, `labels` or `label`), batches
of OpenAI and vLLM, samples of lm-evaluation-harness, tables; as JSON Lines, a JSON array or object, CSV or Parquet.
Which keys are taken is logged. Where several could be meant, none is guessed: the fault names the options that choose.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from medqa_finetune.data.cells import ABSENT, cell_of
from medqa_finetune.data.charset import guess_encoding, read_chunks
from medqa_finetune.data.csv_rows import Table
from medqa_finetune.data.json_rows import read_json_array
from medqa_finetune.data.notation import value_of
from medqa_finetune.data.readers import PACKED, format_of, read_rows
from medqa_finetune.data.rows import Reject, Row
from medqa_finetune.errors import NO_VALUE, DataError, Fault, brief
from medqa_finetune.evaluation.prediction_thoughts import without_thoughts
from medqa_finetune.evaluation.predictions import (
    KEYS_SHOWN,
    ONE_A_LINE,
    PREDICTION_KEYS,
    READABLE,
    REFERENCE_KEYS,
    Prediction,
    collect,
    in_row,
    json_lines,
    parse_json,
)

logger = logging.getLogger(__name__)

PREDICTION, REFERENCE, QUESTION, ID = ROLES = ("prediction", "reference", "question", "id")
OWN = {PREDICTION: PREDICTION_KEYS, REFERENCE: REFERENCE_KEYS, QUESTION: ("question",), ID: ("id",)}
# Keys of other programs; those of both kinds decide nothing where another key is there. `a.0.b` selects inside values.
OTHERS = {
    PREDICTION: (
        "predict", "predicted", "pred", "response", "generated_text", "generated", "generation", "model_output",
        "model_response", "model_answer", "output", "completion", "answer", "outputs.0.text",
        "choices.0.message.content", "choices.0.text", "response.body.choices.0.message.content",
        "response.body.choices.0.text", "filtered_resps.0", "resps.0.0",
    ),
    REFERENCE: (
        "label", "labels", "target", "targets", "gold", "golden", "gold_answer", "ground_truth", "groundtruth", "gt",
        "ref", "expected", "reference_answer", "standard_answer", "solution", "answers", "output",
        "completion", "answer",
    ),
    QUESTION: ("prompt", "query", "messages", "instruction", "input", "origin_prompt",
               "arguments.gen_args_0.arg_0", "arguments.0.0"),
    ID: ("doc_id",),
}  # fmt: skip
# Keys of which a row holds both, and the first is what the other program scores: lm-evaluation-harness.
SCORED_OF = (("filtered_resps.0", "resps.0.0"),)
# A batch of OpenAI has ids of its own as `id`, and the user's as `custom_id`.
BATCH_ID = ("custom_id",)
# Pairs of keys that belong together, whatever else a row holds: of LLaMA-Factory and of ms-swift.
LAYOUTS = (("predict", "label"), ("response", "labels"), ("response", "label"))
# Numbers and truth values of our own rows, which a table holds as text.
VALUES = (
    "hit_limit", "timed_out", "prediction_tokens", "reference_nll", "reference_tokens", "prompt_cut", "reference_cut"
)  # fmt: skip
TABLES = ("csv", "tsv")
MESSAGE_TEXTS, SPEAKERS = ("content", "value"), ("role", "from")
SEPARATORS = {"\t": "tabs", ";": "semicolons", " ": "blanks"}
ASKING = {QUESTION: ("user", "human"), PREDICTION: ("assistant", "gpt"), REFERENCE: ("assistant", "gpt")}

Rows = list[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Content:
    """The rows of a file, each with its line, and whether they are numbered by their place instead."""

    rows: Rows
    by_place: bool


@dataclass(frozen=True)
class Keys:
    """The keys of a row that hold prediction, reference, question and id; None where it is to be found."""

    prediction: str | None = None
    reference: str | None = None
    question: str | None = None
    id: str | None = None


NO_KEYS = Keys()


def read_prediction_file(path: Path, keys: Keys = NO_KEYS, references: Path | None = None) -> list[Prediction]:
    """Read a file of predictions of any known form, and log which keys are taken where they are not our own.

    Args:
        path: JSON Lines, a JSON array, an object that holds or is a collection of rows, CSV or Parquet.
        keys: Keys to take; others are found by their names.
        references: File with the references, by id, or row by row where one of the two files has no ids.

    Raises:
        DataError: the file cannot be read, a row is not a prediction, or it is unclear which keys are meant; names the
            line.
    """
    content = _read(path, keys)
    rows, tabular = content.rows, format_of(path.name) in TABLES
    if references is not None:
        rows, keys = _with_references(rows, path, keys, references)
    return predictions_of(rows, path, keys, tabular=tabular, by_place=content.by_place)


def predictions_of(
    rows: Rows, path: Path, keys: Keys = NO_KEYS, *, tabular: bool = False, by_place: bool = False
) -> list[Prediction]:
    """Convert numbered rows into predictions.

    Args:
        rows: Each with its line.
        path: Their file, for faults.
        keys: Keys to take; others are found by their names.
        tabular: Whether all values are text, as in CSV.
        by_place: Whether rows are numbered by their place, as in a JSON array, of which a line may hold several.

    Raises:
        DataError: as `read_prediction_file`.
    """
    if not rows:
        raise DataError(Fault("no-answers", "there are no answers in it", file=str(path), hint=ONE_A_LINE))
    taken = _keys_of(rows[0], path, keys)
    if taken:
        listed = ", ".join(f"{role}={key}" for role, key in taken.items())
        logger.info("%s: %s", path.name, listed)
    try:
        for place, (line, row) in enumerate(rows, start=1):
            if fault := _lacking(row, taken, (str(path), line)):
                raise DataError(in_row(fault, place) if by_place else fault)
        own = ((line, _own_row(row, taken, tabular=tabular)) for line, row in rows)
        found = collect(own, path, by_place=by_place)
    except DataError as error:
        raise DataError(*(_named(fault, taken) for fault in error.faults)) from None
    # In a table, an empty cell may be a missing one.
    if tabular and (empty := sum(not any(map(str.strip, each.references)) for each in found)):
        logger.warning("%s: %s of %s references are empty and score 0", path.name, f"{empty:,}", f"{len(found):,}")
    return without_thoughts(found, path.name)


def _named(fault: Fault, taken: Mapping[str, str]) -> Fault:
    """Return a fault of a row with the key that the file has."""
    own = {REFERENCE_KEYS[0]: REFERENCE, REFERENCE_KEYS[1]: REFERENCE}
    key = taken.get(own.get(str(fault.key), str(fault.key)))
    if key is None:
        return fault
    if fault.key == PREDICTION and (fault.got is None or fault.got != fault.got):
        return fault.but(key=key, hint='Write "" where nothing was said.')
    missing = fault.code in ("missing-key", "wrong-type") and fault.hint == ""
    return fault.but(key=key, hint=_choosing(str(fault.key).rstrip("s")) if missing else fault.hint)


def _keys_of(first: tuple[int, dict[str, Any]], path: Path, keys: Keys) -> dict[str, str]:
    """Return the key of each role that the file does not call as we do, as its first row shows.

    Raises:
        DataError: prediction or reference are missing, or could be several keys.
    """
    number, row = first
    taken = {role: key for role in ROLES if (key := getattr(keys, role)) is not None}
    open_roles = [role for role in (PREDICTION, REFERENCE) if role not in taken and not _present(row, OWN[role])]
    layout = next((pair for pair in LAYOUTS if len(open_roles) == 2 and len(_present(row, pair)) == 2), None)
    if layout is not None:
        taken |= dict(zip((PREDICTION, REFERENCE), layout, strict=True))
    else:
        taken |= _found(row, open_roles, set(taken.values()), (str(path), number))
    if ID not in taken and (found := _present(row, [*BATCH_ID, *OWN[ID], *OTHERS[ID]])) and found[0] not in OWN[ID]:
        taken[ID] = found[0]
    if QUESTION not in taken and not _present(row, OWN[QUESTION]) and (found := _present(row, OTHERS[QUESTION])):
        taken[QUESTION] = found[0]
    return {role: taken[role] for role in ROLES if role in taken}


def _found(row: Mapping[str, Any], roles: Sequence[str], used: set[str], place: tuple[str, int]) -> dict[str, str]:
    candidates = {role: [key for key in _present(row, OTHERS[role]) if key not in used] for role in roles}
    for scored, raw in SCORED_OF:
        if {scored, raw} <= set(candidates.get(PREDICTION, ())):
            candidates[PREDICTION].remove(raw)
            logger.info("%s: %s is taken, not %s, as its own program scores it", Path(place[0]).name, scored, raw)
    if len(roles) == 2:
        both = set(candidates[PREDICTION]) & set(candidates[REFERENCE])
        # `output` is the prediction next to a `label`, and the reference next to a `response`.
        candidates = {role: [key for key in found if key not in both] or found for role, found in candidates.items()}
        if candidates[PREDICTION] == candidates[REFERENCE] and len(candidates[PREDICTION]) == 1:
            candidates = {PREDICTION: []}  # one key for both: it is unclear which it is
    faults = [_unclear(role, found, row, place) for role, found in candidates.items() if len(found) != 1]
    if faults:
        raise DataError(*faults)
    return {role: found[0] for role, found in candidates.items()}


def _present(row: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return those of the keys under which a row has a value that may be text."""
    return [key for key in keys if (value := cell_of(row, key)) is not ABSENT and not isinstance(value, dict)]


def _unclear(role: str, found: Sequence[str], row: Mapping[str, Any], place: tuple[str, int]) -> Fault:
    named = ", ".join(map(brief, list(row)[:KEYS_SHOWN]))[:200] or "no key"
    known = ", ".join([*OWN[role], *OTHERS[role][:4], "…"])
    problem = (
        f"could be any of {', '.join(found)}" if found else f"is under no known key ({known}); the row has {named}"
    )
    code = "conflict" if found else "missing-key"
    return Fault(code, problem, key=role, file=place[0], line_number=place[1], hint=_choosing(role))


def _choosing(role: str) -> str:
    by_file = " or references=FILE, a file with the same ids" if role == REFERENCE else ""
    return f"Give {role}_key=KEY{by_file}." if role in ROLES else ""


def _lacking(row: Mapping[str, Any], taken: Mapping[str, str], place: tuple[str, int]) -> Fault | None:
    """Return a fault if a row lacks the prediction or the reference, as that of a request that failed does."""
    for role in (PREDICTION, REFERENCE):
        if role in taken and cell_of(row, taken[role]) is ABSENT:
            failed = f" (error: {brief(row['error'])})" if row.get("error") else ""
            named = ", ".join(map(brief, list(row)[:KEYS_SHOWN]))[:200] or "no key"
            problem = f"is missing, and the first row has it; this row has {named}{failed}"
            hint = "Ask again what has failed." if failed else _choosing(role)
            return Fault("missing-key", problem, key=taken[role], file=place[0], line_number=place[1], hint=hint)
    return None


def _own_row(row: Mapping[str, Any], taken: Mapping[str, str], *, tabular: bool) -> dict[str, Any]:
    """Return a row with our own keys."""
    foreign = {key for role in taken for key in OWN[role]} | set(taken.values())
    own = {key: value for key, value in row.items() if key not in foreign}
    for role, key in taken.items():
        value = _text_in(cell_of(row, key), role)
        if value is not ABSENT:
            several = role == REFERENCE and isinstance(value, list)
            own[REFERENCE_KEYS[1] if several else role] = value
    return _from_table(own, taken) if tabular else own


def _from_table(row: dict[str, Any], taken: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of a table, whose cells are text, with its numbers, truth values and lists of references."""
    row |= {key: _value(row[key]) for key in VALUES if key in row}
    for key in (*REFERENCE_KEYS[1:], *([REFERENCE] if REFERENCE in taken else [])):
        cell = row.get(key)
        if isinstance(cell, str):
            value = value_of(cell) if cell.startswith("[") else None
            listed = isinstance(value, list) and value and all(isinstance(each, str) for each in value)
            del row[key]
            row[REFERENCE_KEYS[1] if key == REFERENCE else key] = value if listed else [cell]
    return row


def _text_in(value: Any, role: str) -> Any:
    """Return the text that a list of messages holds for a role, and any other value as it is."""
    if not (isinstance(value, list) and value and all(isinstance(message, dict) for message in value)):
        return value
    for message in reversed(value):
        speaker = next((message[key] for key in SPEAKERS if key in message), None)
        if role in ASKING and speaker in ASKING[role]:
            text = next((message[key] for key in MESSAGE_TEXTS if key in message), None)
            if isinstance(text, list):  # parts of a content, of which only text counts
                text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
            return text
    return value


def _value(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    return None if not text else cell if (value := value_of(text.lower())) is None else value


def _with_references(rows: Rows, path: Path, keys: Keys, references: Path) -> tuple[Rows, Keys]:
    """Return the rows with the references of another file, and its questions where they have none; and their keys."""
    others = _read(references, Keys(reference=keys.reference)).rows
    if not rows or not others:
        where = path if not rows else references
        raise DataError(Fault("no-answers", "there are no answers in it", file=str(where), hint=ONE_A_LINE))
    number, first = others[0]
    reference = [keys.reference] if keys.reference is not None else _present(first, OWN[REFERENCE])
    found = reference or list(_found(first, [REFERENCE], set(), (str(references), number)).values())
    known = [*BATCH_ID, *OWN[ID], *OTHERS[ID]]
    own_ids = _ids(rows, known if keys.id is None else [keys.id])
    other_ids = _ids(others, known if keys.id is None else [keys.id, *known])
    by_name = own_ids is not None and other_ids is not None
    logger.info("%s: reference from %s, %s", references.name, found[0], "by id" if by_name else "row by row")
    if own_ids is not None and other_ids is not None:
        twice = next((name for name, n in Counter(other_ids).items() if n > 1), None)
        if twice is not None:
            raise DataError(Fault("repeated", "must be unique", key="id", got=twice, file=str(references)))
        place = {name: row for name, (_, row) in zip(other_ids, others, strict=True)}
        missing = [name for name in own_ids if name not in place]
        matched = [] if missing else [place[name] for name in own_ids]
    else:
        missing, matched = [], [row for _, row in others]
    if missing or len(matched) != len(rows):
        problem = (
            f"has no reference for {len(missing):,} of {len(rows):,} predictions, {brief(missing[0])} the first"
            if missing
            else f"has {len(others):,} rows for {len(rows):,} predictions, and no ids that both files have"
        )
        hint = "Give a file with the ids of the predictions, or with as many rows in the same order."
        raise DataError(Fault("answers-lack", problem, key="references", file=str(references), hint=hint))
    joined = []
    for (line, row), other in zip(rows, matched, strict=True):
        value = _text_in(cell_of(other, found[0]), REFERENCE)
        key = REFERENCE_KEYS[1] if isinstance(value, list) else REFERENCE
        kept = {name: cell for name, cell in row.items() if name not in REFERENCE_KEYS}
        asked = {} if "question" in row or "question" not in other else {"question": other["question"]}
        joined.append((line, {**kept, **asked, **({} if value is ABSENT else {key: value})}))
    return joined, Keys(keys.prediction, None, keys.question, keys.id)


def _ids(rows: Rows, keys: Sequence[str]) -> list[str] | None:
    """Return the ids of rows; None where a row has none."""
    key = next((key for key in keys if cell_of(rows[0][1], key) not in (ABSENT, None)), None)
    values = [] if key is None else [cell_of(row, key) for _, row in rows]
    return [str(value) for value in values] if values and all(v not in (ABSENT, None) for v in values) else None


def _read(path: Path, keys: Keys) -> Content:
    try:
        path.stat()
        return _content(path, keys)
    except FileNotFoundError:
        raise DataError(Fault("file-missing", "no such file", file=str(path), hint=READABLE)) from None
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise DataError(Fault("not-readable", problem, file=str(path), hint=READABLE)) from None
    except DataError as error:
        # Readers of corpora name settings of a corpus.
        raise DataError(
            *(
                fault.but(key=None, got=NO_VALUE, allowed=(), hint=READABLE)
                if str(fault.key).startswith("corpus.")
                else fault
                for fault in error.faults
            )
        ) from None


def _content(path: Path, keys: Keys) -> Content:
    kind = format_of(path.name)
    if kind in TABLES:
        return Content(list(_of_reader(_table(path, keys).rows(), path)), by_place=False)
    if kind in PACKED:
        return Content(list(_of_reader(read_rows(path, path.name, kind, "utf-8"), path)), by_place=True)
    content = b"".join(read_chunks(path)).removeprefix(b"\xef\xbb\xbf")
    begins = content[:1000].lstrip()[:1]
    if begins == b"[":
        return Content(list(_of_reader(read_json_array(path, path.name, "utf-8"), path)), by_place=True)
    if begins == b"{":
        try:
            whole = parse_json(content.decode("utf-8"))
        except (ValueError, RecursionError):  # rows, one a line; or broken, which the reading of lines says
            whole = None
        if isinstance(whole, dict):
            rows = _of_object(whole, keys)
            return Content(list(enumerate(rows, start=1)), by_place=rows != [whole])
    return Content(list(json_lines(path, content)), by_place=False)


def _table(path: Path, keys: Keys) -> Table:
    """Return a table with what its file says of itself, which is logged where it is not the usual."""
    # Readers of corpora name settings of a corpus in the log, which are none of a file of predictions.
    marked = guess_encoding(next(read_chunks(path), b"")[:4])
    encoding = marked if marked in ("utf-16", "utf-32") else "utf-8"
    if encoding != "utf-8":
        logger.info("%s is read as %s, by its byte-order mark", path.name, encoding)
    known = {*(key for role in ROLES for key in (*OWN[role], *OTHERS[role])), *filter(None, astuple(keys))}
    table = Table(path, path.name, encoding, columns=known)
    delimiter = table.chosen()
    if delimiter != ",":
        said = "%s: cells are separated by %s; save it with commas if that is wrong"
        logger.info(said, path.name, SEPARATORS.get(delimiter, delimiter))
    return table


def _of_reader(rows: Iterable[Row | Reject], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(rows, start=1):
        line = row.place if isinstance(row, Reject) else row.where
        at = line.rpartition(":")[2]
        place = int(at) if at.isdecimal() else number
        if isinstance(row, Reject):
            kind = "not-csv" if format_of(path.name) in TABLES else "not-json"
            problem = f"cannot be read ({row.reason.replace('_', ' ')})"
            raise DataError(Fault(kind, problem, got=row.excerpt, file=str(path), line_number=place, hint=READABLE))
        yield place, dict(row.values)


def _of_object(whole: dict[str, Any], keys: Keys) -> list[dict[str, Any]]:
    """Return the rows of a file that is one object: those of its one list, those of all its values, or the object.

    An object that has a key of a row is one, the only one of its file.
    """
    chosen = [key for key in (keys.prediction, keys.reference) if key is not None]
    own = [key for key in OWN[REFERENCE] if not _is_rows(whole.get(key))]
    if not _present(whole, [*OWN[PREDICTION], *OTHERS[PREDICTION], *chosen, *own]):
        lists = [value for value in whole.values() if _is_rows(value) and not _is_dialogue(value)]
        if len(lists) == 1:
            return list(lists[0])
        if whole and _is_rows(list(whole.values())):
            return [{"id": key, **value} for key, value in whole.items()]
    return [whole]


def _is_dialogue(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these are messages, of a speaker and a text each, and so part of one row."""
    return all(any(key in row for key in SPEAKERS) and any(key in row for key in MESSAGE_TEXTS) for row in rows)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
