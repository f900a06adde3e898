"""Small corpora written by a test, and what reading them gives."""

import json
from pathlib import Path
from typing import Any

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.clean import CHAT_TOKEN
from medqa_finetune.data.corpus import read_examples
from medqa_finetune.data.examples import Example
from medqa_finetune.data.rows import Ledger
from medqa_finetune.errors import DataError
from medqa_finetune.log import shown

GOOD = {"question": "感冒了怎么办？", "answer": "多喝水，多休息。"}
QUESTION, ANSWER = GOOD["question"], GOOD["answer"]
GOOD_LINE = json.dumps(GOOD, ensure_ascii=False)


def corpus_of(path: Path, **changes: Any) -> CorpusConfig:
    return CorpusConfig(**({"name": "t", "source": "file", "path": str(path)} | changes))


def read(path: Path, **changes: Any) -> tuple[list[Example], Ledger]:
    ledger = Ledger()
    return list(read_examples(corpus_of(path, **changes), ledger)), ledger


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rejected(path: Path, **changes: Any) -> list[tuple[str, str]]:
    """Return place and reason of every reject of a file in which anything may be wrong."""
    rejects = path.parent / "r.out"
    with rejects.open("wb") as file:
        list(read_examples(corpus_of(path, **({"max_reject_share": 1.0} | changes)), Ledger(file)))
    return [(r["place"], r["reason"]) for r in map(json.loads, rejects.read_text("utf-8").split("\n")[:-1])]


def check_reading(path: Path, **changes: Any) -> None:
    """Read a file as pairs: either every row comes out as a clean pair or a reject, or one DataError of two lines.

    Raises:
        AssertionError: the pairs are not clean, or the counts do not add up.
        Exception: anything else that escapes a reader.
    """
    rejects = path.parent / "r.out"
    pairs: list[Example] = []
    with rejects.open("wb") as file:
        ledger = Ledger(file)
        try:
            pairs.extend(read_examples(corpus_of(path, **changes), ledger))
        except DataError as error:
            check_message(error)
    listed = [json.loads(line) for line in rejects.read_bytes().split(b"\n")[:-1]]
    assert all(set(row) == {"place", "reason", "excerpt"} for row in listed)
    assert ledger.counts["rows"] - ledger.counts["pairs"] == len(listed), dict(ledger.counts)
    assert len({pair.id for pair in pairs}) == len(pairs)
    for pair in pairs:
        for text in (pair.question, pair.answer):
            assert len(text) >= 2
            check_text(text)
        before = [text for turn in pair.history for text in turn] + ([] if pair.system is None else [pair.system])
        for text in before:
            assert text
            check_text(text)


def check_text(text: str) -> None:
    """A text is clean."""
    assert text == text.strip()
    assert text.encode()
    assert not CHAT_TOKEN.search(text)


def check_message(error: Exception) -> None:
    """A message can be printed, and is a line or two of a length that can be read."""
    assert shown(str(error)).encode()
    assert 1 <= len(str(error).splitlines()) <= 2, str(error)
    assert len(str(error)) < 2000
