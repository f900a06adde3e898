"""The evaluations of a run, wherever they lie, and the folder of a cell: a run with one of them."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from medqa_finetune.config.identity import (
    DEFAULT_EVALUATION,
    EVALUATE,
    SEPARATOR,
)
from medqa_finetune.errors import DataError, MedQAError
from medqa_finetune.record.evaluation_dir import EvaluationDir, evaluations_below
from medqa_finetune.record.record_dir import LOCK_SECONDS
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Record
from medqa_finetune.record.version_1 import first_evaluation, upgrade


class Held(NamedTuple):
    """An evaluation of a run.

    Attributes:
        evaluation: Its record; None where that cannot be read, or was removed just now.
        error: Why it cannot be read; None where it can.
    """

    folder: EvaluationDir
    evaluation: Evaluation | None
    error: DataError | None = None


def evaluations_of(run: RunDir, record: Record) -> list[Held]:
    """Return the evaluations of a run, each read once: the default one first, then by name."""
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
    """Return the record of one evaluation; None where it has not begun.

    Raises:
        DataError: its record is torn, of another schema, or holds a value of the wrong type; says where.
    """
    if folder.in_run and record.schema_version == 1:
        return first_evaluation(run, record)
    return folder.read()


def find_evaluation(run: RunDir, record: Record | None, identity: str, name: str) -> EvaluationDir:
    """Return where an evaluation of a run lies or will lie; one of another identity never shares its folder.

    Args:
        run: The run.
        record: Its record; None where it has none yet.
        identity: Of the evaluation.
        name: Name of its folder where it has none yet.
    """
    taken = False
    for folder, evaluation, error in [] if record is None else evaluations_of(run, record):
        # The caller that starts this evaluation reports what is wrong with its record.
        if error is not None and folder.path.name == name:
            return folder
        if evaluation is not None and evaluation.identity == identity:
            return folder
        taken = taken or (folder.path.name == name and not folder.in_run)
    return EvaluationDir(run.evaluations_path / (f"{name}{SEPARATOR}{identity[:6]}" if taken else name))


def find_evaluation_named(run: RunDir, name: str) -> EvaluationDir:
    """Return where the evaluation of a name lies, or will lie."""
    with contextlib.suppress(MedQAError):
        record = run.read()
        for held in [] if record is None else evaluations_of(run, record):
            if held.evaluation is not None and held.evaluation.name == name:
                return held.folder
    return EvaluationDir(run.evaluations_path / name)


def row_name(run_name: str, evaluation: Evaluation | None) -> str:
    """Return the name of a table's row: the run's name, and the evaluation's settings that differ from the defaults.

    In version 1 the run's name has both.
    """
    first, *parts = run_name.split(SEPARATOR)
    kept = [part for part in parts if not part.startswith((f"{EVALUATE}.", "text="))]
    if evaluation is None:
        return run_name
    return SEPARATOR.join([first, *kept, *evaluation_parts(evaluation.name)])


def evaluation_parts(name: str) -> list[str]:
    """Return the settings in an evaluation's name as `evaluate.key=value`; none for the default one."""
    return [] if name in ("", DEFAULT_EVALUATION) else [f"{EVALUATE}.{part}" for part in name.split(SEPARATOR)]


@dataclasses.dataclass(frozen=True)
class CellDir:
    """The folders of one cell of a matrix: of a run, and of one of its evaluations.

    Attributes:
        evaluation: None for a program without evaluations.
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
        """What the run printed."""
        return self.run.log_path

    def read(self) -> Record | None:
        """Return the run's record from the view of the evaluation; None where there is none.

        Raises:
            DataError: a record is torn, of another schema, or holds a value of the wrong type; says where.
        """
        record = self.run.read()
        if record is None or self.evaluation is None:
            return record
        return record.seen_by(read_evaluation(self.run, record, self.evaluation))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold run and evaluation for this process while the block runs.

        Raises:
            RunError: another process holds one of them.
        """
        with contextlib.ExitStack() as held:
            held.enter_context(self.run.lock(LOCK_SECONDS))
            if self.evaluation is not None:
                held.enter_context(self.evaluation.lock(LOCK_SECONDS))
            yield

    def is_locked(self) -> bool:
        """Return whether a process trains the run, or works on this evaluation of it, now."""
        return self.run.is_locked() or (self.evaluation is not None and self.evaluation.is_locked())

    def write_ending(self, ended: Record) -> None:
        """Record how a process ended that could not do so itself: `status`, `failure` and `finished`.

        Once the training is complete, they belong to the evaluation; the run's record has the same until one of its
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
