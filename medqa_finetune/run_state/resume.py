"""Checks the state left by earlier starts of a cell: same training, resumable, undamaged."""

import logging
import os
from pathlib import Path

from medqa_finetune.cell import Cell, placed_again
from medqa_finetune.config.identity import differences, is_same_training
from medqa_finetune.errors import ConfigError, Fault, ModelError, RunError
from medqa_finetune.record.checksums import Damage, damages
from medqa_finetune.record.environment import installed_versions
from medqa_finetune.record.evaluations import evaluation_dirs, read_evaluation
from medqa_finetune.record.files import existing_part
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import FileStamp, Record
from medqa_finetune.storage.keeper import fetch
from medqa_finetune.training.checkpoints import Checkpoints

log = logging.getLogger(__name__)

WEIGHTS = "adapter/"


def fetched(cell: Cell) -> Cell:
    """Return the cell, after its run was fetched if the storage has a newer state of it.

    Raises:
        MedQAError: the storage does not answer, or another process works on the run here.
    """
    return placed_again(cell) if fetch(cell.config) else cell


def earlier_record(cell: Cell) -> Record | None:
    """Return the record of the cell from an earlier start; None where there is none. Writes nothing.

    Raises:
        ConfigError: `outputs` cannot be written, the folder holds another run and `overwrite` is not set (names the
            keys that differ), or the training was started with other package versions.
        DataError: the folder's record cannot be read.
        ModelError: the trained weights are damaged, and there is no checkpoint.
    """
    found = checked_record(cell)
    if found is None:
        return None
    if found.is_trained:
        _check_weights(cell.run, found)
    elif found.status != "pending":
        _check_resumable(cell.run, found)
    return found.seen_by(read_evaluation(cell.run, found, cell.evaluation))


def checked_record(cell: Cell) -> Record | None:
    """Return the record in the cell's folder, checked to be of the same training; None where there is none.

    Raises:
        ConfigError: `outputs` cannot be written, or the folder holds another run.
        DataError: the folder's record cannot be read.
    """
    config, run = cell.config, cell.run
    check_outputs(config.outputs, run.path.parent)
    found = None if config.overwrite else run.read()
    if found is None:
        return None
    if found.status == "pending" and found.identity != cell.identity:
        return None  # written by a matrix that never started the cell; nothing is lost
    if not is_same_training(found.config, found.identity, cell.settings):
        changed = (
            "; ".join(differences(found.config, cell.written_settings))
            # Values from the environment are not on disk, but they change the identity.
            or f"{', '.join(config.interpolated)}: from elsewhere, with another value or of another version"
        )
        raise ConfigError(
            Fault(
                "another-run",
                f"holds another run ({changed})",
                file=str(run.path),
                hint="Give study=NAME to keep both, or overwrite=true, which moves the old one aside.",
            )
        )
    return found


def own_record(run: RunDir) -> Record:
    """Return the record of a run that this process works on.

    Raises:
        RunError: it no longer exists.
    """
    record = run.read()
    if record is None:
        raise RunError(
            Fault("record-gone", "no longer exists: the folder was changed just now", file=str(run.record_path))
        )
    return record


def check_outputs(outputs: str, folder: Path) -> None:
    """Check that a folder below `outputs` exists or can be created.

    Raises:
        ConfigError: a file has its name, or it is not writable.
    """
    place = existing_part(folder)
    if not place.is_dir():
        raise ConfigError(
            Fault(
                "not-a-folder",
                f"{_named(place, outputs)}is not a folder",
                key="outputs",
                got=outputs,
                hint="Give outputs=DIR with a folder, or with a new name.",
            )
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(
            Fault(
                "not-writable",
                f"{_named(place, outputs)}is not writable",
                key="outputs",
                got=outputs,
                hint="Give outputs=DIR with a folder that is.",
            )
        )


def _named(place: Path, typed: str) -> str:
    """Return the beginning of a clause about a path; empty where the setting already names it."""
    return "" if place == Path(typed).absolute() else f"{place} "


def _check_resumable(run: RunDir, found: Record) -> None:
    """Refuse to resume a training that was started with other package versions."""
    checkpoints = Checkpoints(run.checkpoints_path, found.identity)
    begun = found.environment.versions if found.environment is not None else {}
    installed = installed_versions(name for name in begun if name != "python")
    changed = [
        f"{name} {begun[name]} -> {installed.get(name, 'absent')}"
        for name in begun
        if begun[name] != installed.get(name)
    ]
    if changed and checkpoints.steps():
        raise ConfigError(
            Fault(
                "other-versions",
                f"was started with other package versions ({'; '.join(changed)}); resuming would mix results",
                file=str(run.path),
                hint="Install those, or give overwrite=true, which moves the run aside and starts anew.",
            )
        )


def _check_weights(run: RunDir, found: Record) -> None:
    """Refuse damaged weights without a checkpoint to restore them from."""
    # A finished run's weights are checked when needed, since hashing many gigabytes takes long.
    damaged = [] if found.status == "done" else damages(run.path, weights_of(found))
    if damaged and Checkpoints(run.checkpoints_path, found.identity).newest() is None:
        raise _damaged(run, damaged[0])


def _damaged(run: RunDir, damage: Damage) -> ModelError:
    return ModelError(
        Fault(
            "changed-file",
            f"{damage} since training wrote it (another model's weights?), and no checkpoint is left to make it again",
            file=str(run.path),
            hint="Put it back, or give overwrite=true, which moves the run aside and starts anew.",
        )
    )


def weights_of(record: Record) -> dict[str, FileStamp]:
    """Return the stamps (size, sha256) of the files with the trained weights."""
    return {name: stamp for name, stamp in record.files.items() if name.startswith(WEIGHTS)}


def needs_training(run: RunDir, record: Record) -> bool:
    """Return whether the run must be trained, or its damaged weights restored from a checkpoint.

    Raises:
        ModelError: weights of a finished training are damaged, and there is no checkpoint.
    """
    if not record.is_trained:
        return True
    damaged = damages(run.path, weights_of(record))
    if damaged and Checkpoints(run.checkpoints_path, record.identity).newest() is None:
        raise _damaged(run, damaged[0])
    for damage in damaged:
        log.warning("%s: %s; it is made again from the checkpoints", run.path, damage)
    return bool(damaged)


def warn_of_changed_files(cell: Cell) -> None:
    """Warn of files of a finished cell that have changed; its records still have its results."""
    record, evaluation = cell.run.read(), None
    if record is not None:
        evaluation = read_evaluation(cell.run, record, cell.evaluation)
    of_evaluation = damages(cell.evaluation.path, evaluation.files if evaluation is not None else {})
    of_training = damages(cell.run.path, record.files if record is not None else {})
    if of_evaluation:
        log.warning(
            "%s is done, but %s; remove that folder and give the command again: the questions are answered again, and "
            "nothing is trained",
            cell.evaluation.path,
            "; ".join(map(str, of_evaluation)),
        )
    if of_training := [damage for damage in of_training if damage not in of_evaluation]:
        log.warning(
            "%s is done, but %s; train it again with overwrite=true, which keeps the old one aside",
            cell.run.path,
            "; ".join(map(str, of_training)),
        )


def check_free(cell: Cell) -> None:
    """Refuse a cell that another process works on.

    Raises:
        RunError: names the process.
    """
    cell.run.check_free()
    record = cell.run.read() if cell.config.overwrite else None
    for folder in evaluation_dirs(cell.run, record) if record is not None else [cell.evaluation]:
        folder.check_free()
