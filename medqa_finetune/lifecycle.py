"""A run's status, from the first claim on its folder to the last word of its record."""

import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from omegaconf import OmegaConf

from medqa_finetune.config.identity import Fingerprints, differences, identity_of, settings_of
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError, MedQAError, RunError
from medqa_finetune.record.run_dir import RunDir, now
from medqa_finetune.record.schema import Failure, Record

log = logging.getLogger(__name__)

SIGTERM_EXIT = 128 + signal.SIGTERM


def check_folder(run: RunDir, config: Config, fingerprints: Fingerprints) -> Record | None:
    """Return the record of an earlier start of this very run, None if the folder is free; nothing is written in it.

    Raises:
        ConfigError: `outputs` cannot be written, or the folder holds another run and `overwrite` was not asked for
            (names the keys that differ).
        DataError: the folder's record cannot be read.
    """
    try:
        run.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"outputs={config.outputs}: {run.path.parent} cannot be made ({error.strerror}).") from None
    if not os.access(run.path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"outputs={config.outputs}: {run.path.parent} is not writable.")
    settings = settings_of(config, fingerprints)
    found = None if config.overwrite else run.read()
    if found is not None and found.status == "pending" and found.identity != identity_of(settings):
        return None  # announced by a matrix that never came to it: there is nothing to lose
    if found is not None and found.identity != identity_of(settings):
        changed = "; ".join(differences(found.config, settings)) or "the code that makes results has changed"
        raise ConfigError(
            f"{run.path} holds another run ({changed}). Give study=NAME to keep both, or overwrite=true, "
            "which moves the old one aside."
        )
    return found


def announce(run: RunDir, config: Config, fingerprints: Fingerprints) -> Record:
    """Make sure that the run has a record of this very configuration, `pending` if it is new.

    Raises:
        MedQAError: as `check_folder` does.
    """
    found = check_folder(run, config, fingerprints)
    return run.write(_pending(config, settings_of(config, fingerprints))) if found is None else found


def begin(run: RunDir, config: Config, fingerprints: Fingerprints) -> Record | None:
    """Claim the folder for a run that starts now; return the record instead if the run is done already.

    What an unfinished attempt at the same run left behind is cleared; with `overwrite`, a folder that holds anything
    is moved aside first.
    """
    settings = settings_of(config, fingerprints)
    if config.overwrite and run.path.exists():
        log.info("%s: moved aside to %s", run.path, run.move_aside())
    record = announce(run, config, fingerprints)
    if record.status == "done":
        return record
    for leftover in (run.predictions_path, run.metrics_path, run.results_path, run.curves_path):
        leftover.unlink(missing_ok=True)
    for folder in (run.tensorboard_path, run.checkpoints_path, run.adapter_path):
        shutil.rmtree(folder, ignore_errors=True)
    run.write_config(OmegaConf.to_yaml(OmegaConf.create(settings)))
    run.write(_pending(config, settings).updated(status="running", started=now()))
    return None


def _pending(config: Config, settings: dict[str, object]) -> Record:
    return Record(
        name=config.run_name,
        identity=identity_of(settings),
        status="pending",
        method=config.method.name,
        data="none" if config.method.trains == "nothing" else config.data.name,
        model=config.model.title,
        seed=config.seed,
        config=settings,
    )


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, by an exception, so that it can be left in good order."""
    previous = signal.signal(signal.SIGTERM, _exit_on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def recording_failure(run: RunDir) -> Iterator[None]:
    """Write into the record how the block failed or was interrupted, and pass the error on.

    Raises:
        RunError: in place of an error that this package did not raise itself; its traceback goes to the log.
    """
    with sigterm_as_exit():
        try:
            yield
        except MedQAError as error:
            _note(run, "failed", type(error).__name__, str(error))
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            _note(run, "interrupted", type(error).__name__, "stopped from outside; the same command runs it again")
            raise
        except Exception as error:
            log.debug("%s", traceback.format_exc())
            message = explain_failure(error)
            _note(run, "failed", type(error).__name__, message)
            raise RunError(f"{run.path}: {message} The traceback is in {run.log_path.name} there.") from error


def explain_failure(error: Exception) -> str:
    """Say in a line or two what happened and what helps."""
    text = " ".join(str(error).split())[:500]
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return (
            f"out of memory ({text[:200]}). Try a smaller train.micro_batch (same effective batch), method=qlora, "
            "or a shorter train.max_length."
        )
    return f"{type(error).__name__}: {text}."


def _note(run: RunDir, status: str, kind: str, message: str) -> None:
    try:
        run.update(status=status, failure=Failure(kind, message), finished=now())
    except (MedQAError, OSError) as error:
        # The first error is the one to report; this one must not hide it.
        log.error("%s could not be written: %s", run.record_path, error)


def _exit_on_sigterm(number: int, frame: FrameType | None) -> None:
    sys.exit(SIGTERM_EXIT)
