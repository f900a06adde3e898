"""The questions that variants are measured on: the run's own."""

import json
from collections.abc import Sequence

from medqa_finetune.data.examples import Example, context_of, with_context
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.evaluation.rescore import find_by_name
from medqa_finetune.record.files import sha256_of_text
from medqa_finetune.record.run_dir import RunDir


def read_questions(run: RunDir, limit: int | None) -> list[Example]:
    """Return the test questions that a finished run answered, with their reference answers.

    The corpus is not needed. A run's answers stand in the order of their questions' length, so that a part of them is
    drawn by a hash of their ids: the same ones for every variant, long and short alike.

    Args:
        run: Its predictions have been checked against its record.
        limit: How many; None for all.

    Raises:
        DataError: there are none.
    """
    rows = find_by_name(run).read_predictions()
    if not rows or any("question" not in row for row in rows):
        hint = "Give export.measure=false to export alone."
        file = str(run.path)
        raise DataError(Fault("no-questions", "holds no questions to measure on", file=file, hint=hint))
    rows.sort(key=lambda row: sha256_of_text(str(row["id"])))
    return [with_context(str(row["id"]), str(row["question"]), str(row["reference"]), row) for row in rows[:limit]]


def fingerprint(pairs: Sequence[Example]) -> str:
    """Return a sha256 over ids, questions with what was said before, and references, in order."""
    rows = [
        [pair.id, pair.question, pair.answer, *([context] if (context := context_of(pair)) else [])] for pair in pairs
    ]
    return sha256_of_text(json.dumps(rows, ensure_ascii=False))
