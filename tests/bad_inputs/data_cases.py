"""Bad input 1 to 12: the file as a whole, and rows that lack something."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.bad_inputs.case import LORA, Case
from tests.bad_inputs.rows import CORPUS, GOOD_ROWS, JSONL, accepted, after_good, corpus, line, lines, pair, skipped

PREDICTIONS = "predictions.jsonl"
ANSWER = {"id": "a", "question": "头痛怎么办？", "reference": "多休息。", "prediction": "休息。"}
ON_CORPUS = (*LORA, *JSONL)
ON_PREDICTIONS = (f"predictions={PREDICTIONS}",)


def refused(number: int, what: str, *says: str, prepare: Callable[[Path], None]) -> Case:
    """Return the case of a corpus that is refused before anything is written."""
    return Case(number, what, ON_CORPUS, (CORPUS, *says), prepare)


def of_predictions(number: int, what: str, content: str | bytes, *says: str) -> Case:
    """Return the case of a file of predictions that is not scored."""
    return Case(number, what, ON_PREDICTIONS, (PREDICTIONS, *says), corpus(content, name=PREDICTIONS), "evaluate")


def folder_with_a_picture(folder: Path) -> None:
    """Make a folder, where a file is wanted, that holds nothing readable."""
    (folder / CORPUS).mkdir()
    (folder / CORPUS / "scan.png").write_bytes(b"\x89PNG")


def table(folder: Path) -> None:
    """Write a file of another suffix."""
    (folder / "pairs.xlsx").write_bytes(b"PK\x03\x04")


CASES = [
    Case(1, "file missing", ON_CORPUS, (f"corpus.path={CORPUS}", "no such file or folder")),
    Case(1, "file missing, predictions", ON_PREDICTIONS, (PREDICTIONS, "no such file"), program="evaluate"),
    Case(1, "folder missing, summary", ("outputs=none",), ("outputs=none", "no such folder"), program="summarize"),
    refused(2, "file empty", "the file is empty", "again", prepare=corpus("")),
    refused(2, "file of blank lines", "no rows in it", "one pair a row", prepare=corpus("\n \n\n")),
    of_predictions(2, "file empty, predictions", "", "holds no answers", "one JSON object per line"),
    refused(3, "folder without data", "holds no .jsonl", prepare=folder_with_a_picture),
    Case(
        3, "file of an unknown format", (*LORA, "corpus=jsonl", "corpus.path=pairs.xlsx", "corpus.format=auto"),
        ("pairs.xlsx", "no known format", ".jsonl", "corpus.format="), table,
    ),
    accepted(4, "UTF-8 byte-order mark", corpus(b"\xef\xbb\xbf", lines()), GOOD_ROWS),
    Case(
        4, "UTF-8 byte-order mark, predictions", ON_PREDICTIONS, ("rougeL",),
        corpus(b"\xef\xbb\xbf", line(ANSWER), name=PREDICTIONS), "evaluate", 0,
    ),
    refused(5, "GBK", "line 1", "not utf-8", "corpus.encoding=gb18030", prepare=corpus(lines().encode("gb18030"))),
    refused(5, "UTF-16", "not utf-8", "corpus.encoding=utf-16", prepare=corpus(lines().encode("utf-16"))),
    refused(
        5, "one line in GBK", "line 201", "not utf-8", "mend that line",
        prepare=corpus(lines(), line(pair(0)).encode("gb18030"), lines()),
    ),
    of_predictions(5, "GBK, predictions", line(ANSWER).encode("gb18030"), ":1: not UTF-8", "save the file as UTF-8"),
    accepted(
        6, "torn last line", corpus(lines(), line(pair(GOOD_ROWS))[:-9]), GOOD_ROWS, [(GOOD_ROWS + 1, "torn_last_line")]
    ),
    of_predictions(6, "torn last line, predictions", line(ANSWER) + line(ANSWER)[:-9], ":2: not JSON"),
    skipped(7, "broken line in the middle", '{"question": "没有完，"answer": "\n', "broken_json"),
    refused(
        7, "more than 1 % broken lines", f"5 of {2 * GOOD_ROWS + 5} rows cannot be used (broken_json 5)",
        "corpus.max_reject_share=0.01 allows 4", f"{CORPUS}:201 broken_json", prepare=after_good("oops\n" * 5),
    ),
    accepted(
        8, "JSON array instead of lines", corpus(json.dumps([pair(n) for n in range(GOOD_ROWS)], indent=1)), GOOD_ROWS,
        says=("is a JSON array, not JSON Lines; read as an array",),
    ),
    refused(
        8, "one object over several lines", "one JSON object over several lines", "JSON Lines, or an array",
        prepare=corpus(json.dumps(pair(0), indent=1)),
    ),
    skipped(9, "line is [] or 42", "[]\n42\n", "not_an_object", "not_an_object"),
    of_predictions(9, "line is 42, predictions", line(ANSWER) + "42\n", ":2: got 42", "one JSON object per line"),
    refused(
        10, "fields renamed", "no column 'question'", "found: instruction, output", "corpus.question=COLUMN",
        prepare=corpus('{"instruction": "头痛怎么办", "output": "多休息"}\n' * 9),
    ),
    of_predictions(
        10, "field missing, predictions", '{"id": "a", "answer": "x"}\n', ":1: prediction or hyp",
        "the row has id, answer",
    ),
    skipped(
        11, "null or empty answer", line(pair(900) | {"answer": None}) + line(pair(901) | {"answer": ""}),
        "empty_answer", "empty_answer",
    ),
    skipped(12, "answer of white space alone", line(pair(900) | {"answer": " \u3000\t\n"}), "empty_answer"),
]  # fmt: skip
