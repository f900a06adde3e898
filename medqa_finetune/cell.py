"""A cell: one training and one evaluation of it, checked, named and located on disk; an experiment starts from it."""

import contextlib
import dataclasses
import glob
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from medqa_finetune.config.checks import checked
from medqa_finetune.config.compose import restore_config
from medqa_finetune.config.folder_names import is_shortened
from medqa_finetune.config.identity import (
    EVALUATE,
    RESULTS_VERSION,
    Fingerprints,
    as_written,
    differences,
    evaluation_identity,
    evaluation_name,
    first_identity,
    is_same_training,
    settings_of,
    training_identity,
)
from medqa_finetune.config.schema import Config
from medqa_finetune.data.corpus import corpus_sha256
from medqa_finetune.data.parts import division_of
from medqa_finetune.errors import ConfigError, DataError, Fault, MedQAError
from medqa_finetune.evaluation.benchmarks import text_label, text_sha256
from medqa_finetune.model.locate import fingerprint_model, locate_model
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import CellDir, find_evaluation, read_evaluation
from medqa_finetune.record.run_dir import RECORD_NAME, RunDir
from medqa_finetune.record.schema import Record
from medqa_finetune.record.version_1 import first_defaults


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training and one evaluation of it: checked, named, its files located and fingerprinted.

    Attributes:
        config: Its settings, with `run_name` and `evaluation_name` set.
        model: Folder of the base model's files.
        fingerprints: Hashes of corpus, model and text.
        evaluation_defaults: Default settings of the section `evaluate`, keys without the section.
        evaluation: Folder of the evaluation.
        overrides: Arguments typed for this cell.
        command: Command line that runs this cell alone; empty where no command line composed it.
        results_version: `RESULTS_VERSION` of the training; an earlier one where trained weights are evaluated again.
    """

    config: Config
    model: Path
    fingerprints: Fingerprints
    evaluation_defaults: Mapping[str, Any]
    evaluation: EvaluationDir
    overrides: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    results_version: int = RESULTS_VERSION

    @property
    def run(self) -> RunDir:
        """The run's folder."""
        return RunDir(self.config.run_path)

    @property
    def folder(self) -> CellDir:
        """The folders of the run and of this evaluation."""
        return CellDir(self.run, self.evaluation)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings as nested plain values, with effective sizes and fingerprints of files."""
        return settings_of(self.config, self.fingerprints, self.results_version)

    @property
    def written_settings(self) -> dict[str, Any]:
        """The settings as written to disk: without values from the environment."""
        return as_written(self.settings, self.config)

    @property
    def identity(self) -> str:
        """Hash of the training; equal for all trainings that give the same weights."""
        return training_identity(self.settings)

    @property
    def evaluation_identity(self) -> str:
        """Hash of the evaluation settings that can change the scores of given weights."""
        return evaluation_identity(self.settings)

    def without_overwriting(self) -> "Cell":
        """Return the cell for a folder whose content is its own from now on: `overwrite` has moved the rest aside."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, overwrite=False))


def fingerprints_of(config: Config, model: Path) -> Fingerprints:
    """Return the hashes of a cell's files, which identify it together with its settings.

    Raises:
        MedQAError: the corpus, the text of the evaluation or the model cannot be read.
    """
    return Fingerprints(
        corpus_sha256(config.corpus),
        fingerprint_model(model, config.model.chat_template),
        text_sha256(config),
        division_of(config.corpus),
    )


def place_cell(
    config: Config,
    model: Path,
    fingerprints: Fingerprints,
    run_name: str,
    defaults: Mapping[str, Any],
    *,
    former_names: Sequence[str] = (),
) -> Cell:
    """Return the cell of checked settings, with the folders of its training and its evaluation.

    Args:
        config: The settings.
        model: Folder of the base model's files.
        fingerprints: Hashes of the files that the settings name.
        run_name: Name of the run's folder.
        defaults: Default settings of the section `evaluate`, keys without the section.
        former_names: Names that earlier versions may have given the run's folder.
    """
    settings = settings_of(config, fingerprints)
    run_name = _folder_before(config, run_name, settings, former_names) or run_name
    text = None if config.evaluate.text is None else text_label(config.evaluate, fingerprints.text)
    name = evaluation_name(settings, defaults, text, as_written(settings, config)[EVALUATE])
    run = RunDir(Path(config.outputs) / config.study / run_name)
    record = None if config.overwrite else _readable(run)
    folder = find_evaluation(run, record, evaluation_identity(settings), name)
    named = dataclasses.replace(config, run_name=run_name, evaluation_name=_name_of(run, record, folder))
    return Cell(named, model, fingerprints, dict(defaults), folder)


def placed_again(cell: Cell) -> Cell:
    """Return a cell whose run folder was changed since it was placed: its evaluation may have another folder there."""
    placed = place_cell(
        cell.config, cell.model, cell.fingerprints, cell.config.run_name, cell.evaluation_defaults
    )  # fmt: skip
    return dataclasses.replace(
        placed, overrides=cell.overrides, command=cell.command, results_version=cell.results_version
    )


def _name_of(run: RunDir, record: Record | None, folder: EvaluationDir) -> str:
    """Return the name that an evaluation was started with, which today's defaults may no longer give."""
    with contextlib.suppress(MedQAError):
        evaluation = None if record is None else read_evaluation(run, record, folder)
        if evaluation is not None:
            return evaluation.name
    return folder.path.name


def _readable(run: RunDir) -> Record | None:
    """Return the run's record, None where it cannot be read; starting the run reports why."""
    try:
        return run.read()
    except DataError:
        return None


def _folder_before(config: Config, name: str, settings: Mapping[str, Any], former_names: Sequence[str]) -> str | None:
    """Return the folder that an earlier version gave this training; in version 1, settings of the evaluation named it.

    Version 1 trained once per evaluation, so there may be several: finished ones come first, then those with these
    settings.
    """
    parent = Path(config.outputs) / config.study
    if (parent / name / RECORD_NAME).is_file():
        return None
    for former in former_names:
        record = _readable(RunDir(parent / former))
        if record is not None and record.status != "pending" and _is_same(record, settings):
            return former
    beginnings = dict.fromkeys(each.split("__", maxsplit=1)[0] for each in (name, *former_names))
    records = (record for beginning in beginnings for record in _first_records(parent, beginning))
    found = [record for record in records if _is_same(record, settings)]
    wanted = first_identity(settings)
    found.sort(key=lambda record: (record.status != "done", record.identity != wanted, record.name))
    return found[0].name if found else None


def _first_records(parent: Path, beginning: str) -> Iterator[Record]:
    for path in sorted(parent.glob(f"{glob.escape(beginning)}__*/{RECORD_NAME}")):
        name = path.parent.name
        # Other folders have version 2 names; skipping them avoids reading every record of a large study.
        if _says_evaluation(name) and (record := _readable(RunDir(path.parent))) is not None:
            # A folder may have been renamed since.
            yield record.updated(name=name)


def _says_evaluation(name: str) -> bool:
    """Return whether a folder's name contains a setting of the evaluation, or was cut and may have contained one."""
    parts = name.split("__")[1:]
    return ".old-" not in name and (
        is_shortened(name) or any(part.startswith((f"{EVALUATE}.", "text=")) for part in parts)
    )


def _is_same(record: Record, settings: Mapping[str, Any]) -> bool:
    try:
        return is_same_training(record.config, record.identity, settings)
    except (KeyError, TypeError, AttributeError):  # an incomplete record of version 1
        return False


def cell_of_run(run: RunDir, evaluate: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> Cell:
    """Return the cell of a trained run and another evaluation of it.

    Args:
        run: Folder of the run.
        evaluate: Settings of the evaluation that differ from the run's defaults, keys without the section.
        others: Current location of model and corpus (`model.path`, `corpus.path`), and `threads`.

    Raises:
        ConfigError: a setting is impossible, or corpus or model are not those of the run.
        DataError: there is no run in the folder, or it is not trained.
        RunError: another process is training it.
    """
    record = run.read()
    if record is None:
        raise DataError(
            Fault("not-a-run", f"has no {RECORD_NAME}", key="run", got=str(run.path), hint="Give the folder of a run.")
        )
    if not record.is_trained:
        run.check_free()  # a run in training is not bad input
        raise DataError(
            Fault(
                "not-trained",
                f"its status is {record.status}, and it is not trained",
                key="run",
                got=str(run.path),
                hint="The command that started it resumes it.",
            )
        )
    defaults = first_defaults(record)
    config = _of_record(run, record, {**defaults, **evaluate}, others or {})
    try:
        model = locate_model(config.model)
        fingerprints = fingerprints_of(config, model)
    except MedQAError as error:
        places = "Give model.path=DIR or corpus.path=FILE if it lies elsewhere now than when the run was trained."
        raise type(error)(*(fault.but(hint=f"{fault.hint} {places}".strip()) for fault in error.faults)) from None
    version = int(record.config.get("results_version", RESULTS_VERSION))
    settings = settings_of(config, fingerprints, version)
    if not is_same_training(record.config, record.identity, settings):
        changed = "; ".join(differences(record.config, as_written(settings, config))) or "settings from elsewhere"
        raise ConfigError(
            Fault(
                "another-training",
                f"its corpus or model is no longer the one it was trained with ({changed})",
                key="run",
                got=str(run.path),
                hint="Give corpus.path=FILE or model.path=DIR with those.",
            )
        )
    cell = place_cell(config, model, fingerprints, config.run_name, defaults)
    return dataclasses.replace(cell, results_version=version)


def _of_record(run: RunDir, record: Record, evaluate: Mapping[str, Any], others: Mapping[str, Any]) -> Config:
    """Return the settings of a run with another evaluation, located where the run's folder is now."""
    path = run.path.absolute()
    written = {**record.config, EVALUATE: dict(evaluate)}
    config = restore_config(written)
    study = Path(config.study)
    inside = bool(config.study) and path.parent.parts[-len(study.parts) :] == study.parts
    outputs = path.parents[len(study.parts)] if inside else path.parent
    if "corpus.path" in others and config.corpus.source == "embedded":
        problem = "the run's corpus ships with the package and has no path"
        raise ConfigError(Fault("conflict", problem, key="corpus.path", got=str(others["corpus.path"])))
    changed = {
        key: dataclasses.replace(getattr(config, key), path=str(others[f"{key}.path"]))
        for key in ("model", "corpus")
        if f"{key}.path" in others
    }
    return checked(
        dataclasses.replace(
            config,
            outputs=str(outputs),
            study=config.study if inside else "",
            # The copy of a folder that lies elsewhere now is not this one's.
            storage=config.storage if inside or not config.study else None,
            run_name=path.name,
            evaluation_name="",
            overwrite=False,
            threads=others.get("threads", config.threads),
            **changed,
        )
    )
