"""Where the report finds what a run left."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment, Record


@dataclass(frozen=True)
class Source:
    """A run as one of its evaluations sees it, and how its scores per question are had.

    Attributes:
        evaluation: Folder of the evaluation; None where none has begun.
        answered_in: Where the evaluation took place.
        items: Returns an object with `ids` and `values` (by score, one number per prediction), or None.
    """

    folder: RunDir
    evaluation: EvaluationDir | None
    record: Record
    items: Callable[[], Any]
    answered_in: Environment | None = None
