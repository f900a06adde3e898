"""The evaluations of a run, in any layout, and the folders of a cell: a run with one of them."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from medqa_finetune.config.folder_names import SEPARATOR
from medqa_finetune.config.identity import DEFAULT_EVALUATION, EVALUATE
from medqa_finetune.errors import DataError, MedQAError
from medqa_finetune.record.evaluation_dir import EvaluationDir, evaluations_below
from medqa_finetune.record.record_dir import LOCK_SECONDS
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Record
from medqa_finetune.record.version_1 import first_evaluation, upgrade


class Held(NamedTuple):
    """An evaluation of a run, as read from disk.

    Attributes:
        folder: Its folder.
        evaluation: Its record; None where that cannot be read, or was just removed.
        error: Why it cannot be read; None where it can.
    """

    folder: EvaluationDir
    evaluation: Evaluation | None
    error: DataError | None = None


def evaluations_of(run: RunDir, record: Record) -> list[Held]:
    """Return the evaluations of a run, each read once: the one that `record` belongs to first, then by name."""
    own = EvaluationDir(run.path, in_run=True)
    has_own = first_evaluation(run, record) is not None if record.schema_version == 1 else own.record_path.is_file()
    folders = [*([own] if has_own else []), *evaluations_below(run.evaluations_path)]
    found = [_held(run, record, folder) for folder in folders]
    return sorted(found, key=lambda held: (held.evaluation and held.evaluation.name) != record.evaluation_name)


def _held(run: RunDir, record: Record, folder: EvaluationDir) -> Held:
    try:
        return Held(folder, read_evaluation(run, record, folder))
    except DataError as error:
        return Held(folder, None, error)


def evaluation_dirs(run: RunDir, record: Record) -> list[EvaluationDir]:
    """Return the folders of a run's evaluations, in the order of `evaluations_of`."""
    return [held.folder for held in evaluations_of(run, record)]


def read_evaluation(run: RunDir, record: Record, folder: EvaluationDir) -> Evaluation | None:
    """Return the record of one evaluation; None where it has not started.

    Raises:
        DataError: its record is torn, of another schema, or has a value of the wrong type; names the place.
    """
    if folder.in_run and record.schema_version == 1:
        return first_evaluation(run, record)
    return folder.read()


def find_evaluation(run: RunDir, record: Record | None, identity: str, name: str) -> EvaluationDir:
    """Return the existing or future folder of an evaluation, shared with no evaluation of another identity.

    Args:
        run: The run.
        record: Its record; None where it has none yet.
        identity: Identity of the evaluation.
        name: Name of a new folder.
    """
    taken = False
    for folder, evaluation, error in [] if record is None else evaluations_of(run, record):
        # Starting this evaluation reports what is wrong with its record.
        if error is not None and folder.path.name == name:
            return folder
        if evaluation is not None and evaluation.identity == identity:
            return folder
        taken = taken or (folder.path.name == name and not folder.in_run)
    return EvaluationDir(run.evaluations_path / (f"{name}{SEPARATOR}{identity[:6]}" if taken else name))


def find_evaluation_named(run: RunDir, name: str) -> EvaluationDir:
    """Return the existing or future folder of the evaluation with this name."""
    with contextlib.suppress(MedQAError):
        record = run.read()
        for held in [] if record is None else evaluations_of(run, record):
            if held.evaluation is not None and held.evaluation.name == name:
                return held.folder
    return EvaluationDir(run.evaluations_path / name)


def row_name(run_name: str, evaluation: Evaluation | None) -> str:
    """Return the name of a table's row: the run's name, and the evaluation's settings that differ from the defaults.

    In version 1 the run's name lists both.
    """
    first, *parts = run_name.split(SEPARATOR)
    kept = [part for part in parts if not part.startswith((f"{EVALUATE}.", "text="))]
    if evaluation is None:
        return run_name
    return SEPARATOR.join([first, *kept, *evaluation_parts(evaluation.name)])


def evaluation_parts(name: str) -> list[str]:
    """Return the settings in an evaluation's name as `evaluate.key=value`; empty for the default evaluation."""
    return [] if name in ("", DEFAULT_EVALUATION) else [f"{EVALUATE}.{part}" for part in name.split(SEPARATOR)]


@dataclasses.dataclass(frozen=True)
class CellDir:
    """The folders of one cell: of a run, and of one of its evaluations.

    Attributes:
        run: Folder of the run.
        evaluation: Folder of the evaluation; None for programs without evaluations.
    """

    run: RunDir
    evaluation: EvaluationDir | None = None

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.run.path

    @property
    def record_path(self) -> Path:
        """Record of the run."""
        return self.run.record_path

    @property
    def log_path(self) -> Path:
        """Log of the run."""
        return self.run.log_path

    def read(self) -> Record | None:
        """Return the run's record with the results of this evaluation; None where there is none.

        Raises:
            DataError: a record is torn, of another schema, or has a value of the wrong type; names the place.
        """
        record = self.run.read()
        if record is None or self.evaluation is None:
            return record
        return record.seen_by(read_evaluation(self.run, record, self.evaluation))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock run and evaluation for this process while the block runs.

        Raises:
            RunError: another process has locked one of them.
        """
        with contextlib.ExitStack() as held:
            held.enter_context(self.run.lock(LOCK_SECONDS))
            if self.evaluation is not None:
                held.enter_context(self.evaluation.lock(LOCK_SECONDS))
            yield

    def is_locked(self) -> bool:
        """Return whether a process is training the run, or working on this evaluation."""
        return self.run.is_locked() or (self.evaluation is not None and self.evaluation.is_locked())

    def holder_elsewhere(self) -> str:
        """Return the process on another machine that holds a lease of one of them, in words; empty if there is none."""
        return self.run.holder_elsewhere() or (self.evaluation.holder_elsewhere() if self.evaluation else "")

    def drop_expired_leases(self) -> None:
        """Remove leases of other machines that this process has seen expire, so that a cell need not watch them."""
        self.run.drop_expired_lease()
        if self.evaluation is not None:
            self.evaluation.drop_expired_lease()

    def write_ending(self, ended: Record) -> None:
        """Record the end of a process that could not record it: `status`, `failure` and `finished`.

        Once the training is complete, they belong to the evaluation; the run's record gets them too until one of its
        evaluations is done.
        """
        ending = {"status": ended.status, "failure": ended.failure, "finished": ended.finished}
        record = self.run.read()
        if record is None:
            self.run.write(ended)
            return
        record = upgrade(self.run, record)
        if record.is_trained and self.evaluation is not None and self.evaluation.read() is not None:
            self.evaluation.update(**ending)
        if record.status != "done":
            self.run.write(record.updated(**ending))
