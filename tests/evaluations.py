"""Writes the default evaluation of a synthetic run; reads records that must be there."""

from medqa_finetune.cell import Cell
from medqa_finetune.config.identity import DEFAULT_EVALUATION, evaluation_identity
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Record


def record_of(run: RunDir) -> Record:
    record = run.read()
    assert record is not None
    return record


def evaluation_of(cell: Cell) -> Evaluation:
    evaluation = cell.evaluation.read()
    assert evaluation is not None
    return evaluation


def default_of(run: RunDir) -> EvaluationDir:
    """Return the folder of a run's default evaluation, and create it if necessary."""
    folder = EvaluationDir(run.evaluations_path / DEFAULT_EVALUATION)
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def write_default(run: RunDir, record: Record) -> EvaluationDir:
    """Write the record of a run's default evaluation from the run's record and the existing files."""
    folder = default_of(run)
    folder.write(
        Evaluation(
            name=DEFAULT_EVALUATION,
            identity=evaluation_identity(record.config),
            status=record.status,
            settings=dict(record.config.get("evaluate") or {}),
            result=record.evaluation,
            exams=record.zero_shot,
            environment=record.environment,
            files=folder.stamps(),
            finished=record.finished,
        )
    )
    return folder
