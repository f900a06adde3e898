"""Writes the default evaluation of a synthetic run."""

from medqa_finetune.config.identity import DEFAULT_EVALUATION, evaluation_identity
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Record


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
