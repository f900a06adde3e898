"""Keeps what runs have in common in memory once: the settings of a matrix, its data, its machines, its signatures.

Every record is read by itself; that of a run takes some 50 KiB, of which most is equal in all runs of a matrix.
"""

import hashlib
from dataclasses import replace
from typing import TypeVar

from medqa_finetune.record.schema import Record, Score

T = TypeVar("T")


class Shared:
    """Values met so far; what is given must not be changed afterwards."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._values: dict[bytes, object] = {}

    def text(self, text: str) -> str:
        """Return the first of all equal texts."""
        return self._texts.setdefault(text, text)

    def value(self, value: T) -> T:
        """Return the first of all values with this `repr`, of nested mappings, lists and data classes."""
        digest = hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        found: T = self._values.setdefault(digest, value)  # type: ignore[assignment]
        return found

    def record(self, record: Record) -> Record:
        """Return an equal record whose parts are shared with those before it."""
        evaluation = record.evaluation
        if evaluation is not None:
            evaluation = replace(evaluation, scores=self._scores(evaluation.scores))
        return replace(
            record,
            config={key: self.value(part) for key, part in record.config.items()},
            data_manifest=self.value(record.data_manifest),
            parameters=self.value(record.parameters),
            layers=self.value(record.layers),
            environment=self.value(record.environment),
            evaluation_defaults=self.value(record.evaluation_defaults),
            evaluation=evaluation,
            zero_shot=self._scores(record.zero_shot),
        )

    def _scores(self, scores: dict[str, Score]) -> dict[str, Score]:
        return {self.text(name): Score(score.value, self.text(score.signature)) for name, score in scores.items()}
