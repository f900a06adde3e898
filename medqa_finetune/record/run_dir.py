"""The only reader and writer of a run folder."""

import contextlib
import dataclasses
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from medqa_finetune.errors import DataError, RunError
from medqa_finetune.record.files import (
    TEMPORARY_PREFIX,
    append_lines,
    keep_lines,
    sha256_of,
    write_json,
    write_text,
)
from medqa_finetune.record.reading import read_lines, read_record
from medqa_finetune.record.schema import EvaluationRecord, FileStamp, Process, Record
from medqa_finetune.record.stamps import stamps_below

if TYPE_CHECKING:
    from medqa_finetune.record.item_scores import ItemScores

RECORD_NAME = "record.json"
EXPORT_NAME = "export"
NOT_STAMPED = (RECORD_NAME, "log.txt", "tensorboard", "wandb", "checkpoints", EXPORT_NAME, f".{EXPORT_NAME}.lock")
LOCK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class RunDir:
    """The folder of one run: where each file lies, and how the record in it is read and written."""

    path: Path

    @property
    def record_path(self) -> Path:
        """The truth about the run."""
        return self.path / RECORD_NAME

    @property
    def config_path(self) -> Path:
        """The resolved configuration, as YAML."""
        return self.path / "config.yaml"

    @property
    def adapter_path(self) -> Path:
        """The chosen weights with their tokenizer."""
        return self.path / "adapter"

    @property
    def checkpoints_path(self) -> Path:
        """Where the trainer may keep its own files."""
        return self.path / "checkpoints"

    @property
    def predictions_path(self) -> Path:
        """One line per answered question."""
        return self.path / "predictions.jsonl"

    @property
    def answering_path(self) -> Path:
        """One line per answered batch: how far answering has come, and what it cost."""
        return self.path / "answering.jsonl"

    @property
    def results_path(self) -> Path:
        """Scores with signatures; can be made again from the predictions alone."""
        return self.path / "eval_results.json"

    @property
    def item_scores_path(self) -> Path:
        """What every answer scored; can be made again from the predictions alone."""
        return self.path / "item_scores.npz"

    @property
    def curves_path(self) -> Path:
        """Plot of losses and learning rate."""
        return self.path / "training_curves.png"

    @property
    def metrics_path(self) -> Path:
        """One line per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard_path(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def log_path(self) -> Path:
        """What the run printed."""
        return self.path / "log.txt"

    @property
    def export_path(self) -> Path:
        """Where models made of a finished run are put, unless another place is named."""
        return self.path / EXPORT_NAME

    @contextlib.contextmanager
    def lock(self, patience: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the run for this process while the block runs.

        The lock lies beside the folder, so that the folder can be moved aside while it is held, and is freed by the
        operating system when the process ends, however it ends.

        Args:
            patience: Seconds to wait for it; `is_locked` of another process holds it for a moment.

        Raises:
            RunError: another process holds it, or the place is not writable.
        """
        path = self._lock_path()
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=patience)
        except Timeout:
            raise self._busy() from None
        except OSError as error:
            raise RunError(f"{self.path}: cannot be locked ({error.strerror}); a writable folder is wanted.") from None
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Say whether a process works on the run just now; nothing is written, not even the folder.

        A lock that cannot be opened is nobody's: who starts the run is told what is wrong with it.
        """
        if not self._lock_path().is_file():
            return False
        try:
            with FileLock(self._lock_path()).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def check_free(self) -> None:
        """Refuse a run that a process works on just now.

        Raises:
            RunError: names the process.
        """
        if self.is_locked():
            raise self._busy()

    def _busy(self) -> RunError:
        return RunError(f"{self.path}: {self._owner()} is working on this run. Wait for it, or stop it.")

    def _lock_path(self) -> Path:
        # Absolute, for the folder may be given as `.`, which has no name to call the lock after.
        path = self.path.absolute()
        return path.parent / f".{path.name}.lock"

    def _owner(self) -> str:
        with contextlib.suppress(DataError):
            record = self.read()
            if record is not None and record.process is not None:
                return f"process {record.process.pid} on {record.process.host}"
        return "another process"

    def read(self) -> Record | None:
        """Return the record, or None where there is none.

        Raises:
            DataError: the file is torn, of another schema, or holds a value of the wrong type; says where.
        """
        return read_record(self.record_path) if self.record_path.is_file() else None

    def write(self, record: Record) -> Record:
        """Write the record atomically, and return it."""
        write_json(self.record_path, dataclasses.asdict(record))
        return record

    def update(self, **changes: Any) -> Record:
        """Change fields of the record that is there, write it, and return it."""
        record = self.read()
        if record is None:
            raise RunError(f"{self.record_path} is gone: the run folder was changed while the run was going on.")
        return self.write(record.updated(**changes))

    def write_config(self, text: str) -> None:
        """Write `config.yaml`."""
        write_text(self.config_path, text)

    def log_metrics(self, row: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        append_lines(self.metrics_path, [row])

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl`, oldest first; a torn last line is left out."""
        return read_lines(self.metrics_path) if self.metrics_path.is_file() else []

    def forget_metrics_after(self, step: int) -> None:
        """Cut `metrics.jsonl` behind the rows of a step; training writes the later ones again."""
        rows = self.read_metrics()
        keep_lines(self.metrics_path, sum(row["step"] <= step for row in rows))

    def read_predictions(self) -> list[dict[str, Any]]:
        """Return the lines of `predictions.jsonl`, oldest first; a torn last line is left out."""
        return read_lines(self.predictions_path) if self.predictions_path.is_file() else []

    def append_predictions(self, rows: list[dict[str, Any]]) -> None:
        """Append answered questions to `predictions.jsonl`; they survive a crash from here on."""
        append_lines(self.predictions_path, rows)

    def log_answered(self, row: dict[str, Any]) -> None:
        """Append one line to `answering.jsonl`."""
        append_lines(self.answering_path, [row])

    def read_answered(self) -> list[dict[str, Any]]:
        """Return the lines of `answering.jsonl`, oldest first; a torn last line is left out."""
        return read_lines(self.answering_path) if self.answering_path.is_file() else []

    def write_results(self, results: EvaluationRecord) -> None:
        """Write `eval_results.json`."""
        write_json(self.results_path, dataclasses.asdict(results))

    def write_item_scores(self, scores: "ItemScores") -> bool:
        """Write `item_scores.npz` if it does not hold these scores already; say whether it was written."""
        from medqa_finetune.record import item_scores  # numpy takes a moment to load, and most doors need none

        path = self.item_scores_path
        if path.is_file() and path.read_bytes() == item_scores.to_bytes(scores):
            return False
        item_scores.write_item_scores(path, scores)
        return True

    def read_item_scores(self) -> "ItemScores | None":
        """Return what every answer scored; None where that is not on disk, torn, or of other predictions than these."""
        from medqa_finetune.record import item_scores

        scores = item_scores.read_item_scores(self.item_scores_path)
        if scores is None or not self.predictions_path.is_file():
            return None
        return scores if scores.predictions_sha256 == sha256_of(self.predictions_path) else None

    def stamps(self, part: str = "") -> dict[str, FileStamp]:
        """Return size and sha256 of every file that a finished run is made of, by path relative to the folder.

        Left out are the record itself, the log, what trackers keep, and checkpoints, which the results do not need, and
        what is made of a finished run.

        Args:
            part: Folder of the run to look at; all of them if empty.
        """
        prefix = f"{part}/" if part else ""
        found = stamps_below(self.path / part, leave_out=NOT_STAMPED)
        return {prefix + name: stamp for name, stamp in found.items()}

    def move_aside(self) -> Path:
        """Rename the folder to the first free `<name>.old-N`, and return the new path. Nothing is deleted."""
        path = self.path.absolute()
        number = 1
        while (target := path.with_name(f"{path.name}.old-{number}")).exists():
            number += 1
        return self.path.rename(target)


def this_process() -> Process:
    """Return who works here."""
    return Process(os.getpid(), socket.gethostname())


def now() -> str:
    """Return the time in UTC, as ISO 8601 text with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def find_runs(root: Path) -> Iterator[RunDir]:
    """Yield every folder below `root` that holds a record, in the order of the paths.

    Left out is what lies in `summary`, `cache`, in a folder that was moved aside, or in one still being written.
    """
    for path in sorted(root.rglob(RECORD_NAME)):
        if not any(_is_no_run(part) for part in path.parent.relative_to(root).parts):
            yield RunDir(path.parent)


def _is_no_run(folder: str) -> bool:
    return folder in ("summary", "cache") or ".old-" in folder or folder.startswith(TEMPORARY_PREFIX)
