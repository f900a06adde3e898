"""A run's status, from the first claim on its folder to the last word of its record."""

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import OmegaConf

from medqa_finetune.compat.failures import is_disk_full, is_out_of_memory
from medqa_finetune.config.identity import Fingerprints, as_written, differences, identity_of, is_same_run, settings_of
from medqa_finetune.config.schema import Config
from medqa_finetune.data.sources import corpus_sha256
from medqa_finetune.errors import ConfigError, MedQAError, ModelError, RunError
from medqa_finetune.evaluation.exams import text_sha256
from medqa_finetune.model.locate import fingerprint_model
from medqa_finetune.record.environment import installed_versions
from medqa_finetune.record.files import existing_part, sweep
from medqa_finetune.record.run_dir import RunDir, now, this_process
from medqa_finetune.record.schema import Failure, Record
from medqa_finetune.record.stamps import damages
from medqa_finetune.stopping import Interrupted, StopRequest, stoppable
from medqa_finetune.training.checkpoints import Checkpoints

log = logging.getLogger(__name__)


def fingerprints_of(config: Config, model_folder: Path) -> Fingerprints:
    """Return what a run is known by beside its settings.

    Raises:
        MedQAError: the corpus, the text beside the answers or the model cannot be read.
    """
    model = fingerprint_model(model_folder, config.model.chat_template)
    return Fingerprints(corpus_sha256(config.corpus), model, text_sha256(config))


def check_folder(run: RunDir, config: Config, fingerprints: Fingerprints) -> Record | None:
    """Return the record of an earlier start of this very run, None if the folder is free; nothing is written in it.

    Raises:
        ConfigError: `outputs` cannot be written, or the folder holds another run and `overwrite` was not asked for
            (names the keys that differ).
        DataError: the folder's record cannot be read.
    """
    check_outputs(config.outputs, run.path.parent)
    settings = settings_of(config, fingerprints)
    found = None if config.overwrite else run.read()
    is_another = found is not None and not is_same_run(found.config, found.identity, settings)
    if found is not None and found.status == "pending" and is_another:
        return None  # announced by a matrix that never came to it: there is nothing to lose
    if found is not None and is_another:
        changed = (
            "; ".join(differences(found.config, as_written(settings, config)))
            # Values from the environment are not on disk, only what they make of the identity is.
            or f"{', '.join(config.interpolated)}: from elsewhere, with another value or of another version"
        )
        raise ConfigError(
            f"{run.path} holds another run ({changed}). Give study=NAME to keep both, or overwrite=true, "
            "which moves the old one aside."
        )
    if found is not None and found.status not in ("pending", "done"):
        _check_resumable(run, found)
    return found


def check_outputs(outputs: str, folder: Path) -> None:
    """Check that a folder below `outputs` is one, or can be made.

    Raises:
        ConfigError: a file is in its place, or it cannot be written.
    """
    place = existing_part(folder)
    if not place.is_dir():
        raise ConfigError(f"outputs={outputs}: {place} is not a folder; outputs=DIR wants one, or a new name.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"outputs={outputs}: {place} is not writable; outputs=DIR wants a folder that is.")


def _check_resumable(run: RunDir, found: Record) -> None:
    """Refuse to go on with what other library versions began, or with weights that are not those the run wrote."""
    checkpoints = Checkpoints(run.checkpoints_path, found.identity)
    begun = found.environment.versions if found.environment is not None else {}
    installed = installed_versions(name for name in begun if name != "python")
    changed = [
        f"{name} {begun[name]} -> {installed.get(name, 'absent')}"
        for name in begun
        if begun[name] != installed.get(name)
    ]
    if changed and (checkpoints.steps() or run.predictions_path.exists()):
        raise ConfigError(
            f"{run.path} was begun with other versions ({'; '.join(changed)}), and its figures would be a mixture. "
            "Install those, or give overwrite=true, which moves it aside and starts anew."
        )
    damaged = damages(run.path, found.files)
    if damaged and checkpoints.newest() is None:
        raise ModelError(
            f"{run.path}: {damaged[0]} since training wrote it (another model's weights?), and no checkpoint is left "
            "to make it again. Put it back, or give overwrite=true, which moves the run aside and starts anew."
        )


def trained_before(run: RunDir, record: Record) -> bool:
    """Say whether an earlier start trained to the end and left its weights as they should be."""
    if not record.files:
        return False
    damaged = damages(run.path, record.files)
    for fault in damaged:
        log.warning("%s: %s; it is made again from the checkpoints", run.path, fault)
    return not damaged


def warn_of_damage(run: RunDir, record: Record) -> None:
    """Say which files of a finished run are no longer what the run left; its record still holds its results."""
    faults = damages(run.path, record.files)
    if faults:
        log.warning(
            "%s is done, but %s; overwrite=true runs it again and keeps the old one aside",
            run.path, "; ".join(faults),
        )  # fmt: skip


def announce(run: RunDir, config: Config, fingerprints: Fingerprints) -> Record:
    """Make sure that the run has a record of this very configuration, `pending` if it is new.

    Raises:
        MedQAError: as `check_folder` does.
    """
    found = check_folder(run, config, fingerprints)
    return run.write(_pending(config, settings_of(config, fingerprints))) if found is None else found


def begin(run: RunDir, config: Config, fingerprints: Fingerprints) -> Record:
    """Claim the folder for a run that starts or goes on now, and return its record; `done` if nothing is left to do.

    With `overwrite`, a folder that holds anything is moved aside first. What killed writers left is swept away.

    Raises:
        MedQAError: as `check_folder` does.
    """
    # An empty folder is what Hydra's own launchers make for a job before it starts.
    if config.overwrite and run.path.exists() and any(run.path.iterdir()):
        log.info("%s: moved aside to %s", run.path, run.move_aside())
    record = announce(run, config, fingerprints)
    if record.status == "done":
        return record
    sweep(run.path)
    run.write_config(OmegaConf.to_yaml(OmegaConf.create(record.config)))
    return run.update(
        status="running", process=this_process(), started=record.started or now(), finished=None, failure=None
    )


def _pending(config: Config, settings: dict[str, object]) -> Record:
    return Record(
        name=config.run_name,
        identity=identity_of(settings),
        status="pending",
        method=config.method.name,
        data="none" if config.method.trains == "nothing" else config.data.name,
        model=config.model.title,
        seed=config.seed,
        config=as_written(settings, config),
    )


@contextmanager
def recording_failure(run: RunDir) -> Iterator[StopRequest]:
    """Write into the record how the block failed or was interrupted, and pass the error on.

    Yields what a signal has asked; see `stopping.stoppable`.

    Raises:
        RunError: in place of an error that this package did not raise itself; its traceback goes to the log.
    """
    try:
        with stoppable() as stop:
            yield stop
    except MedQAError as error:
        _note(run, "failed", Failure(type(error).__name__, str(error), final=True))
        raise
    except (Interrupted, KeyboardInterrupt) as error:
        kind = str(error) or type(error).__name__
        _note(run, "interrupted", Failure(kind, "stopped from outside; the same command goes on with it"))
        raise
    except BaseException as error:  # SystemExit, too: nothing in a run has a reason to end the process
        log.debug("%s", traceback.format_exc())
        message = explain_failure(error)
        # Another try would run out of memory the same way.
        _note(run, "failed", Failure(type(error).__name__, message, final=is_out_of_memory(error)))
        raise RunError(f"{run.path}: {message} The traceback is in {run.log_path.name} there.") from error


def explain_failure(error: BaseException) -> str:
    """Say in a line or two what happened and what helps."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, SystemExit):
        return f"something in the run called sys.exit({error.code}) before it was done."
    if is_disk_full(error):
        return (
            f"the disk is full ({text[:200]}). What was finished is intact: free some space, and the same command goes "
            "on with it."
        )
    if is_out_of_memory(error):
        return (
            f"out of memory ({text[:200]}). Try a smaller train.micro_batch (same effective batch), method=qlora, "
            "or a shorter train.max_length."
        )
    return f"{type(error).__name__}: {text}."


def _note(run: RunDir, status: str, failure: Failure) -> None:
    try:
        run.update(status=status, failure=failure, finished=now())
    except (MedQAError, OSError) as error:
        # The first error is the one to report; this one must not hide it.
        log.error("%s could not be written: %s", run.record_path, error)
