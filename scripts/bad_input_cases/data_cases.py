"""Bad inputs 1 to 12: whole files, and rows that lack something."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from scripts.bad_input_cases.case import LORA, Case, Expected
from scripts.bad_input_cases.rows import (
    CORPUS,
    GOOD_ROWS,
    JSONL,
    accepted,
    after_good,
    corpus,
    line,
    lines,
    pair,
    skipped,
)

PREDICTIONS = "predictions.jsonl"
ANSWER = {"id": "a", "question": "头痛怎么办？", "reference": "多休息。", "prediction": "休息。"}
ON_CORPUS = (*LORA, *JSONL)
ON_PREDICTIONS = (f"predictions={PREDICTIONS}",)


def refused(number: int, what: str, fault: Expected, *, prepare: Callable[[Path], None]) -> Case:
    """Case of a corpus that is refused before anything is written."""
    return Case(number, what, ON_CORPUS, (fault,), prepare)


def of_predictions(number: int, what: str, content: str | bytes, fault: Expected) -> Case:
    """Case of a predictions file that is not scored."""
    in_it = dataclasses.replace(fault, file=PREDICTIONS)
    return Case(number, what, ON_PREDICTIONS, (in_it,), corpus(content, name=PREDICTIONS), "evaluate")


def encoding(code: str, line: int, hint: str, names: tuple[str, ...], allowed: tuple[str, ...] = ()) -> Expected:
    return Expected(code, "corpus.encoding", "utf-8", names, allowed, hint, CORPUS, line)


def folder_with_a_picture(folder: Path) -> None:
    """Make a folder with nothing readable in place of a file."""
    (folder / CORPUS).mkdir()
    (folder / CORPUS / "scan.png").write_bytes(b"\x89PNG")


def table(folder: Path) -> None:
    (folder / "pairs.xlsx").write_bytes(b"PK\x03\x04")


ONE_A_LINE = "one JSON object per line"
CASES = [
    Case(
        1, "file missing", ON_CORPUS, (Expected("file-missing", "corpus.path", CORPUS, names=("working folder: /",)),)
    ),
    Case(
        1, "file missing, predictions", ON_PREDICTIONS,
        (Expected("file-missing", hint="predictions as JSON Lines", file=PREDICTIONS),), program="evaluate",
    ),
    Case(
        1, "folder missing, summary", ("outputs=none",),
        (Expected("file-missing", "outputs", "none", hint="folder that runs were written to"),), program="summarize",
    ),
    refused(
        2, "file empty", Expected("file-empty", "corpus.path", hint="again", file=CORPUS), prepare=corpus("")
    ),
    refused(
        2, "file of blank lines", Expected("no-rows", "corpus.path", hint="one example a row", file=CORPUS),
        prepare=corpus("\n \n\n"),
    ),
    of_predictions(2, "file empty, predictions", "", Expected("no-answers", hint=ONE_A_LINE)),
    refused(
        3, "folder without data",
        Expected("folder-without-data", "corpus.path", CORPUS, names=(".jsonl", ".parquet"), hint="Give a file"),
        prepare=folder_with_a_picture,
    ),
    Case(
        3, "file of an unknown format", (*LORA, "corpus=jsonl", "corpus.path=pairs.xlsx", "corpus.format=auto"),
        (
            Expected(
                "unknown-format", "corpus.format", "auto", names=(".jsonl", ".zst"),
                allowed=("jsonl", "json", "csv", "parquet", "arrow"), hint="Save it as CSV", file="pairs.xlsx",
            ),
        ),
        table,
    ),
    accepted(4, "UTF-8 byte-order mark", corpus(b"\xef\xbb\xbf", lines()), GOOD_ROWS),
    Case(
        4, "UTF-8 byte-order mark, predictions", ON_PREDICTIONS, (),
        corpus(b"\xef\xbb\xbf", line(ANSWER), name=PREDICTIONS), "evaluate", 0, says=("rougeL",),
    ),
    refused(
        5, "GBK", encoding("wrong-encoding", 1, "corpus.encoding=gb18030", ("byte 14",), ("gb18030",)),
        prepare=corpus(lines().encode("gb18030")),
    ),
    accepted(
        5, "UTF-16", corpus(lines().encode("utf-16")), GOOD_ROWS, says=("is read as utf-16, by its byte-order mark",)
    ),
    refused(
        5, "UTF-16 without a byte-order mark",
        encoding("wrong-encoding", 1, "corpus.encoding=utf-16-le", ("utf-16-le",), ("utf-16-le",)),
        prepare=corpus(lines().encode("utf-16-le")),
    ),
    refused(
        5, "one line in GBK", encoding("damaged-text", GOOD_ROWS + 1, "Repair that line", ("byte 20,884",)),
        prepare=corpus(lines(), line(pair(0)).encode("gb18030"), lines()),
    ),
    of_predictions(
        5, "GBK, predictions", line(ANSWER).encode("gb18030"),
        Expected("not-utf8", hint="Save the file as UTF-8", line=1),
    ),
    accepted(
        6, "torn last line", corpus(lines(), line(pair(GOOD_ROWS))[:-9]), GOOD_ROWS, [(GOOD_ROWS + 1, "torn_last_line")]
    ),
    of_predictions(
        6, "torn last line, predictions", line(ANSWER) + line(ANSWER)[:-9],
        Expected("not-json", names=("character 68",), hint=ONE_A_LINE, line=2),
    ),
    skipped(7, "broken line in the middle", '{"question": "没有完，"answer": "\n', "broken_json"),
    refused(
        7, "more than 1 % broken lines",
        Expected(
            "too-many-rejects", "corpus.max_reject_share", 0.01,
            names=(f"5 of {2 * GOOD_ROWS + 5} rows", "broken_json 5", "allows 4", f"{CORPUS}:201 broken_json: 'oops'"),
            hint="corpus.max_reject_share", file=CORPUS,
        ),
        prepare=after_good("oops\n" * 5),
    ),
    accepted(
        8, "JSON array instead of lines", corpus(json.dumps([pair(n) for n in range(GOOD_ROWS)], indent=1)), GOOD_ROWS,
        says=("is a JSON array, not JSON Lines; read as an array",),
    ),
    refused(
        8, "one object over several lines",
        Expected("not-json-lines", hint="JSON Lines, or as an array", file=CORPUS, line=1),
        prepare=corpus(json.dumps(pair(0), indent=1)),
    ),
    skipped(9, "line is [] or 42", "[]\n42\n", "not_an_object", "not_an_object"),
    of_predictions(
        9, "line is 42, predictions", line(ANSWER) + "42\n",
        Expected("wrong-type", got=42, names=("JSON object",), hint=ONE_A_LINE, line=2),
    ),
    refused(
        10, "fields renamed",
        Expected(
            "column-missing", "corpus.question", "question", allowed=("instruction", "output"),
            hint="corpus.question=COLUMN", file=CORPUS,
        ),
        prepare=corpus('{"instruction": "头痛怎么办", "output": "多休息"}\n' * 9),
    ),
    of_predictions(
        10, "field missing, predictions", '{"id": "a", "answer": "x"}\n',
        Expected("missing-key", "prediction", names=("hyp", "id, answer"), line=1),
    ),
    skipped(
        11, "null or empty answer", line(pair(900) | {"answer": None}) + line(pair(901) | {"answer": ""}),
        "empty_answer", "empty_answer",
    ),
    skipped(12, "answer of white space alone", line(pair(900) | {"answer": " \u3000\t\n"}), "empty_answer"),
]  # fmt: skip
