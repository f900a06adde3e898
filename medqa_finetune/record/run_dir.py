"""The only reader and writer of a run folder."""

import dataclasses
import os
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medqa_finetune.record.checksums import stamps_below
from medqa_finetune.record.evaluation_dir import ANSWERING, ITEM_SCORES, PREDICTIONS, RESULTS, move_aside
from medqa_finetune.record.evaluation_dir import RECORD_NAME as EVALUATION_RECORD_NAME
from medqa_finetune.record.files import TEMPORARY_PREFIX, append_lines, keep_lines, write_json, write_text
from medqa_finetune.record.read import read_lines, read_record
from medqa_finetune.record.record_dir import RecordDir
from medqa_finetune.record.schema import EvaluationRecord, FileStamp, Process, Record

RECORD_NAME = "record.json"
EXPORT_NAME = "export"
EVALUATIONS_NAME = "evaluations"
# Files of an evaluation that version 1 stored in the run's own folder.
OF_AN_EVALUATION = (
    PREDICTIONS,
    ANSWERING,
    RESULTS,
    ITEM_SCORES,
    EVALUATION_RECORD_NAME,
    ".evaluation.lock",
    ".evaluation.lease",
)
NOT_STAMPED = (
    RECORD_NAME,
    "log.txt",
    "tensorboard",
    "wandb",
    "swanlab",
    "checkpoints",
    EVALUATIONS_NAME,
    EXPORT_NAME,
    f".{EXPORT_NAME}.lock",
    f".{EXPORT_NAME}.lease",
    *OF_AN_EVALUATION,
)


@dataclasses.dataclass(frozen=True)
class RunDir(RecordDir[Record]):
    """The folder of one run: paths of its files, and reading and writing them.

    Its lock is held during training, and to change the record.
    """

    @property
    def record_path(self) -> Path:
        """`record.json`, the record of the run."""
        return self.path / RECORD_NAME

    @property
    def config_path(self) -> Path:
        """The resolved configuration, as YAML."""
        return self.path / "config.yaml"

    @property
    def adapter_path(self) -> Path:
        """Trained weights with their tokenizer."""
        return self.path / "adapter"

    @property
    def checkpoints_path(self) -> Path:
        """Folder of the training's checkpoints."""
        return self.path / "checkpoints"

    @property
    def results_path(self) -> Path:
        """Scores of the default evaluation, a copy of its own file for scripts."""
        return self.path / RESULTS

    @property
    def evaluations_path(self) -> Path:
        """Folder with one folder per evaluation."""
        return self.path / EVALUATIONS_NAME

    @property
    def curves_paths(self) -> tuple[Path, ...]:
        """Plot of losses and learning rate, as PNG, SVG and PDF."""
        return tuple(self.path / f"training_curves.{ending}" for ending in ("png", "svg", "pdf"))

    @property
    def metrics_path(self) -> Path:
        """One line per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard_path(self) -> Path:
        """Folder of TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def log_path(self) -> Path:
        """Log of the run, with tracebacks."""
        return self.path / "log.txt"

    @property
    def export_path(self) -> Path:
        """Default folder of exported models."""
        return self.path / EXPORT_NAME

    def read(self) -> Record | None:
        """Return the record, or None where there is none.

        Raises:
            DataError: the file is torn, of another schema, or has a value of the wrong type; names the place.
        """
        return read_record(self.record_path) if self.record_path.is_file() else None

    def write_config(self, text: str) -> None:
        """Write `config.yaml` atomically."""
        write_text(self.config_path, text)

    def log_metrics(self, row: Mapping[str, object]) -> None:
        """Append one line to `metrics.jsonl`, flushed to disk."""
        append_lines(self.metrics_path, [row])

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl`, oldest first; a torn last line is left out."""
        return read_lines(self.metrics_path) if self.metrics_path.is_file() else []

    def forget_metrics_after(self, step: int) -> None:
        """Remove rows after an optimizer step from `metrics.jsonl`; resumed training writes them again."""
        rows = self.read_metrics()
        keep_lines(self.metrics_path, sum(row["step"] <= step for row in rows))

    def write_results(self, results: EvaluationRecord) -> None:
        """Write `eval_results.json`."""
        write_json(self.results_path, dataclasses.asdict(results))

    def stamps(self) -> dict[str, FileStamp]:
        """Return size and sha256 of every file of a finished training, by path relative to the folder.

        Left out are the record, the log, tracker files, checkpoints, exports, and evaluations, which have their
        own stamps.
        """
        return {
            name: stamp
            for name, stamp in stamps_below(self.path, leave_out=NOT_STAMPED).items()
            if ".old-" not in name.partition("/")[0]
        }

    def move_aside(self) -> Path:
        """Rename the folder to the first free `<name>.old-N`, and return the new path. Nothing is deleted."""
        return move_aside(self.path)


def this_process() -> Process:
    """Return id and host name of this process."""
    return Process(os.getpid(), socket.gethostname())


def now() -> str:
    """Return the time in UTC, in ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def find_runs(root: Path) -> Iterator[RunDir]:
    """Yield the runs below `root`, sorted by path.

    Skips `summary`, `cache`, folders that were moved aside, and those still being written.
    """
    for path in sorted(root.rglob(RECORD_NAME)):
        if not any(_is_no_run(part) for part in path.parent.relative_to(root).parts):
            yield RunDir(path.parent)


def _is_no_run(folder: str) -> bool:
    return folder in ("summary", "cache") or ".old-" in folder or folder.startswith(TEMPORARY_PREFIX)
