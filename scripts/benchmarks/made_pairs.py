"""Generates examples of requested number and length from slices of existing text, reproducible by seed."""

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from medqa_finetune.data.embedded import embedded_rows

# Standard deviation of the logarithm of a text's length in characters in Chinese consultations.
QUESTION_MEDIAN, ANSWER_MEDIAN, SPREAD = 40, 90, 0.8
SHORTEST, LONGEST = 6, 1200
SLICE = 24

Row = dict[str, str]


def read_rows(path: Path | None) -> list[Row]:
    """Read examples from a JSON Lines file with `question` and `answer`, or from the embedded corpus."""
    if path is None:
        return [{"question": row["question"], "answer": row["answer"]} for row in embedded_rows()]
    lines = path.read_text(encoding="utf-8").splitlines()
    return [{"question": row["question"], "answer": row["answer"]} for row in map(json.loads, filter(None, lines))]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON Lines, in bounded memory."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class TextMaker:
    """Generates texts of a given length from other texts.

    Args:
        rows: Examples whose text is sliced.
        seed: Seed of the choice of slices.
    """

    def __init__(self, rows: Sequence[Row], seed: int = 0) -> None:
        self._pool = "".join(row["question"] + row["answer"] for row in rows).replace("\n", "")
        self._random = random.Random(seed)  # noqa: S311 - reproducible texts, nothing secret

    def text(self, characters: int) -> str:
        """Return a text of `characters` characters, concatenated from random slices."""
        starts = (self._random.randrange(len(self._pool) - SLICE) for _ in range(math.ceil(characters / SLICE)))
        return "".join(self._pool[start : start + SLICE] for start in starts)[:characters]

    def length(self, median: int) -> int:
        """Sample a length in characters, log-normal around the median as in real data."""
        length = round(median * math.exp(self._random.gauss(0, SPREAD)))
        return min(LONGEST, max(SHORTEST, length))


def made_pairs(rows: Sequence[Row], n: int, seed: int = 0) -> Iterator[Row]:
    """Yield `n` examples with lengths as in real consultations."""
    maker = TextMaker(rows, seed)
    for _ in range(n):
        question = maker.text(maker.length(QUESTION_MEDIAN))
        yield {"question": question, "answer": maker.text(maker.length(ANSWER_MEDIAN))}
