"""The only reader and writer of the folder of one evaluation."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_finetune.record.checksums import stamp_of
from medqa_finetune.record.files import append_lines, sha256_of, write_json
from medqa_finetune.record.lease import check_held
from medqa_finetune.record.read import read_evaluation, read_lines
from medqa_finetune.record.record_dir import RecordDir
from medqa_finetune.record.schema import Evaluation, EvaluationRecord, FileStamp

if TYPE_CHECKING:
    from medqa_finetune.record.item_scores import ItemScores

RECORD_NAME = "evaluation.json"
PREDICTIONS, ANSWERING, RESULTS, ITEM_SCORES = (
    "predictions.jsonl",
    "answering.jsonl",
    "eval_results.json",
    "item_scores.npz",
)


@dataclasses.dataclass(frozen=True)
class EvaluationDir(RecordDir[Evaluation]):
    """The folder of one evaluation of a run: paths of its files, and reading and writing them.

    Attributes:
        path: The folder.
        in_run: Whether it is the run's own folder, where version 1 stored a run's only evaluation.
    """

    in_run: bool = False

    @property
    def record_path(self) -> Path:
        """`evaluation.json`, the record of the evaluation."""
        return self.path / RECORD_NAME

    @property
    def predictions_path(self) -> Path:
        """One line per predicted question, or scored block of running text."""
        return self.path / PREDICTIONS

    @property
    def answering_path(self) -> Path:
        """One line per batch of predictions: progress and cost."""
        return self.path / ANSWERING

    @property
    def results_path(self) -> Path:
        """Scores with signatures; can be recomputed from the predictions."""
        return self.path / RESULTS

    @property
    def item_scores_path(self) -> Path:
        """Scores per prediction; can be recomputed from the predictions."""
        return self.path / ITEM_SCORES

    @property
    def lock_path(self) -> Path:
        """The lock file; in the run's own folder it is not the run's lock."""
        return self.path.absolute() / ".evaluation.lock" if self.in_run else super().lock_path

    def read(self) -> Evaluation | None:
        """Return the record of the evaluation, or None where there is none.

        Raises:
            DataError: the file is torn, of another schema, or has a value of the wrong type; names the place.
        """
        return read_evaluation(self.record_path) if self.record_path.is_file() else None

    def read_predictions(self) -> list[dict[str, Any]]:
        """Return the lines of `predictions.jsonl`, oldest first; a torn last line is left out."""
        return read_lines(self.predictions_path) if self.predictions_path.is_file() else []

    def append_predictions(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append predictions to `predictions.jsonl`, flushed to disk."""
        append_lines(self.predictions_path, rows)

    def log_answered(self, row: Mapping[str, object]) -> None:
        """Append one line to `answering.jsonl`."""
        append_lines(self.answering_path, [row])

    def read_answered(self) -> list[dict[str, Any]]:
        """Return the lines of `answering.jsonl`, oldest first; a torn last line is left out."""
        return read_lines(self.answering_path) if self.answering_path.is_file() else []

    def write_results(self, results: EvaluationRecord) -> None:
        """Write `eval_results.json`."""
        write_json(self.results_path, dataclasses.asdict(results))

    def write_item_scores(self, scores: "ItemScores") -> bool:
        """Write `item_scores.npz` unless it has these scores already; return whether it was written."""
        from medqa_finetune.record import item_scores  # imported late: numpy is slow, and most commands do not need it

        path = self.item_scores_path
        if path.is_file() and path.read_bytes() == item_scores.to_bytes(scores):
            return False
        item_scores.write_item_scores(path, scores)
        return True

    def read_item_scores(self) -> "ItemScores | None":
        """Return the scores per prediction; None where the file is missing, torn, or of other predictions."""
        from medqa_finetune.record import item_scores

        scores = item_scores.read_item_scores(self.item_scores_path)
        if scores is None or not self.predictions_path.is_file():
            return None
        return scores if scores.predictions_sha256 == sha256_of(self.predictions_path) else None

    def stamps(self) -> dict[str, FileStamp]:
        """Return size and sha256 of every file of a finished evaluation, by name."""
        # In the run's folder, the results file is of the default evaluation, which may be another one.
        names = (PREDICTIONS, ANSWERING, ITEM_SCORES, *(() if self.in_run else (RESULTS,)))
        return {name: stamp_of(self.path / name) for name in names if (self.path / name).is_file()}

    def move_aside(self) -> None:
        """Rename the evaluation's files to the first free `<name>.old-N`. Nothing is deleted."""
        if not self.in_run:
            move_aside(self.path)
            return
        for name in (PREDICTIONS, ANSWERING, ITEM_SCORES, RECORD_NAME):
            if (self.path / name).exists():
                move_aside(self.path / name)


def move_aside(path: Path) -> Path:
    """Rename a file or folder to the first free `<name>.old-N`, and return the new path."""
    path, number = path.absolute(), 1
    check_held(path)
    while (target := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    return path.rename(target)


def evaluations_below(folder: Path) -> Iterator[EvaluationDir]:
    """Yield every evaluation in a run's folder `evaluations`, by name, except those that were moved aside."""
    for path in sorted(folder.glob(f"*/{RECORD_NAME}")):
        if ".old-" not in path.parent.name:
            yield EvaluationDir(path.parent)
