"""Builds corpora with one defect, and the expected result of preparing them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from scripts.bad_input_cases.case import Case

CORPUS = "pairs.jsonl"
JSONL = ("corpus=jsonl", f"corpus.path={CORPUS}")
# Enough rows that a bad one is below the allowed share.
GOOD_ROWS = 200


def pair(number: int) -> dict[str, str]:
    """A row whose question is no near-duplicate of the others."""
    return {"question": f"第{number}个病人发烧{number}天了，怎么办？", "answer": f"先休息{number}天，多喝水。"}


def line(row: object) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def lines(n: int = GOOD_ROWS) -> str:
    return "".join(line(pair(number)) for number in range(n))


def corpus(*parts: str | bytes, name: str = CORPUS) -> Callable[[Path], None]:
    content = b"".join(part.encode() if isinstance(part, str) else part for part in parts)

    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def after_good(*bad: str) -> Callable[[Path], None]:
    """Return a function that writes a corpus: good rows on lines 1 to 200, the given text, then good rows again."""
    return corpus(lines(), *bad, "".join(line(pair(number)) for number in range(GOOD_ROWS, 2 * GOOD_ROWS)))


def skipped(number: int, what: str, row: str, *reasons: str) -> Case:
    """Case of rows that are left out: one after line 200 per reason; all others are used."""
    return accepted(
        number, what, after_good(row), 2 * GOOD_ROWS, [(GOOD_ROWS + n, reason) for n, reason in enumerate(reasons, 1)]
    )


def accepted(
    number: int,
    what: str,
    prepare: Callable[[Path], None],
    pairs: int,
    rejects: Iterable[tuple[int, str]] = (),
    says: tuple[str, ...] = (),
) -> Case:
    """Case of a file that is accepted, with `pairs` examples used and `rejects` listed by line and reason."""
    wanted = list(rejects)
    counts = {f"rejected_{reason}": 0 for _, reason in wanted}
    for _, reason in wanted:
        counts[f"rejected_{reason}"] += 1
    reported = tuple(f"{n}  {name}" for name, n in ({"pairs": pairs} | counts).items())
    return Case(
        number, what, (*JSONL, "--to", "cleaned"), (), prepare, "preprocess", 0,
        lambda folder: _check_cleaned(folder / "cleaned", pairs, wanted), reported + says,
    )  # fmt: skip


def _check_cleaned(folder: Path, pairs: int, rejects: list[tuple[int, str]]) -> None:
    rows = json_lines(folder / "pairs.jsonl")
    assert len(rows) == pairs
    assert all(row["question"] and row["answer"] for row in rows)
    listed = [(row["place"], row["reason"]) for row in json_lines(folder / "rejects.jsonl")]
    assert listed == [(f"{CORPUS}:{number}", reason) for number, reason in rejects]


def json_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").split("\n") if text]
