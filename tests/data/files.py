"""Writes small corpora, and reads them."""

import json
from pathlib import Path
from typing import Any

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import read_examples
from medqa_finetune.data.examples import Example
from medqa_finetune.data.rows import Ledger

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
    """Return place and reason of every reject of a file, with no limit on their share."""
    rejects = path.parent / "r.out"
    with rejects.open("wb") as file:
        list(read_examples(corpus_of(path, **({"max_reject_share": 1.0} | changes)), Ledger(file)))
    return [(r["place"], r["reason"]) for r in map(json.loads, rejects.read_text("utf-8").split("\n")[:-1])]
