"""A cell's status, from the first claim on its folder to the last word of its records."""

import contextlib
import logging
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from medqa_finetune.cell import Cell
from medqa_finetune.compat.failures import is_disk_full, is_out_of_memory
from medqa_finetune.config.identity import DEFAULT_EVALUATION, EVALUATE, differences, is_same_training
from medqa_finetune.errors import ConfigError, Fault, MedQAError, ModelError, RunError
from medqa_finetune.evaluation.reuse import reuse, set_aside_elsewhere
from medqa_finetune.log import log_to
from medqa_finetune.record.environment import installed_versions
from medqa_finetune.record.evaluations import evaluation_dirs, read_evaluation, upgrade
from medqa_finetune.record.files import existing_part, sweep
from medqa_finetune.record.run_dir import RunDir, now, this_process
from medqa_finetune.record.schema import (
    Environment,
    Evaluation,
    EvaluationRecord,
    Failure,
    FileStamp,
    Record,
    TrainRecord,
)
from medqa_finetune.record.stamps import damages
from medqa_finetune.stopping import Interrupted, StopRequest, stoppable
from medqa_finetune.training.checkpoints import Checkpoints

log = logging.getLogger(__name__)

WEIGHTS = "adapter/"
# How long a process waits for the run's lock to write what it has found; others hold it to write, too.
WRITE_PATIENCE_SECONDS = 600.0


def find_earlier(cell: Cell) -> Record | None:
    """Return what an earlier start of this very cell left, None if there is nothing; nothing is written.

    Raises:
        ConfigError: `outputs` cannot be written, the folder holds another run and `overwrite` was not asked for (names
            the keys that differ), or the training was started with other package versions.
        DataError: the folder's record cannot be read.
        ModelError: the trained weights are damaged, and no checkpoint is left.
    """
    found = _record_of(cell)
    if found is None:
        return None
    if found.is_trained:
        _check_weights(cell.run, found)
    elif found.status != "pending":
        _check_resumable(cell.run, found)
    return found.seen_by(read_evaluation(cell.run, found, cell.evaluation))


def _record_of(cell: Cell) -> Record | None:
    """Return the record of the cell's run where there is one, after a look whether it is that run.

    Raises:
        ConfigError: `outputs` cannot be written, or the folder holds another run.
        DataError: the folder's record cannot be read.
    """
    config, run = cell.config, cell.run
    check_outputs(config.outputs, run.path.parent)
    found = None if config.overwrite else run.read()
    if found is None:
        return None
    if not is_same_training(found.config, found.identity, cell.settings):
        if found.status == "pending":
            return None  # announced by a matrix that never came to it: there is nothing to lose
        changed = (
            "; ".join(differences(found.config, cell.written_settings))
            # Values from the environment are not on disk, only what they make of the identity is.
            or f"{', '.join(config.interpolated)}: from elsewhere, with another value or of another version"
        )
        raise ConfigError(
            Fault(
                "another-run", f"holds another run ({changed})", file=str(run.path),
                hint="Give study=NAME to keep both, or overwrite=true, which moves the old one aside.",
            )
        )  # fmt: skip
    return found


def check_outputs(outputs: str, folder: Path) -> None:
    """Check that a folder below `outputs` is one, or can be made.

    Raises:
        ConfigError: a file is in its place, or it cannot be written.
    """
    place = existing_part(folder)
    if not place.is_dir():
        raise ConfigError(
            Fault("not-a-folder", f"{_named(place, outputs)}is not a folder", key="outputs", got=outputs,
                  hint="Give outputs=DIR with a folder, or with a new name.")
        )  # fmt: skip
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(
            Fault("not-writable", f"{_named(place, outputs)}is not writable", key="outputs", got=outputs,
                  hint="Give outputs=DIR with a folder that is.")
        )  # fmt: skip


def _named(place: Path, typed: str) -> str:
    """Return how a sentence on a place begins: without its name where that stands in front of it."""
    return "" if place == Path(typed).absolute() else f"{place} "


def _check_resumable(run: RunDir, found: Record) -> None:
    """Refuse to resume a training that other library versions began."""
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
                "other-versions", f"was started with other package versions ({'; '.join(changed)}); resuming would mix "
                "results", file=str(run.path),
                hint="Install those, or give overwrite=true, which moves the run aside and starts anew.",
            )
        )  # fmt: skip


def _check_weights(run: RunDir, found: Record) -> None:
    """Refuse weights that are not those the run wrote, where no checkpoint is left to make them again."""
    # Of a finished run this is looked at when its weights are needed: they may be many gigabytes.
    damaged = [] if found.status == "done" else damages(run.path, weights_of(found))
    if damaged and Checkpoints(run.checkpoints_path, found.identity).newest() is None:
        raise _damaged(run, damaged[0])


def _damaged(run: RunDir, damage: str) -> ModelError:
    return ModelError(
        Fault(
            "changed-file", f"{damage} since training wrote it (another model's weights?), and no checkpoint is "
            "left to make it again", file=str(run.path),
            hint="Put it back, or give overwrite=true, which moves the run aside and starts anew.",
        )
    )  # fmt: skip


def weights_of(record: Record) -> dict[str, FileStamp]:
    """Return the stamps of the files that hold the trained weights."""
    return {name: stamp for name, stamp in record.files.items() if name.startswith(WEIGHTS)}


def needs_training(run: RunDir, record: Record) -> bool:
    """Return whether weights are still to be trained, or to be made again from the checkpoints.

    Raises:
        ModelError: weights of a finished training are damaged, and no checkpoint is left.
    """
    if not record.is_trained:
        return True
    damaged = damages(run.path, weights_of(record))
    if damaged and Checkpoints(run.checkpoints_path, record.identity).newest() is None:
        raise _damaged(run, damaged[0])
    for damage in damaged:
        log.warning("%s: %s; it is made again from the checkpoints", run.path, damage)
    return bool(damaged)


def warn_of_damage(cell: Cell) -> None:
    """Warn of files of a finished cell that are no longer what it left; its records still hold its results."""
    record, evaluation = cell.run.read(), None
    if record is not None:
        evaluation = read_evaluation(cell.run, record, cell.evaluation)
    faults = damages(cell.run.path, record.files if record is not None else {})
    faults += damages(cell.evaluation.path, evaluation.files if evaluation is not None else {})
    faults = list(dict.fromkeys(faults))
    if faults:
        log.warning(
            "%s is done, but %s; overwrite=true runs it again and keeps the old one aside",
            cell.run.path, "; ".join(faults),
        )  # fmt: skip


def check_free(cell: Cell) -> None:
    """Refuse a cell on which another process works.

    Raises:
        RunError: names the process.
    """
    cell.run.check_free()
    record = cell.run.read() if cell.config.overwrite else None
    for folder in evaluation_dirs(cell.run, record) if record is not None else [cell.evaluation]:
        folder.check_free()


def announce(cell: Cell) -> Record:
    """Make sure that the cell has records of this very configuration, `pending` where they are new.

    Whoever calls holds the run's lock.

    Raises:
        MedQAError: the folder holds another run, or a record in it cannot be read.
    """
    found = _record_of(cell)
    record = cell.run.write(_pending(cell)) if found is None else upgrade(cell.run, found)
    evaluation = cell.evaluation.read()
    if evaluation is None:
        evaluation = cell.evaluation.write(
            Evaluation(
                name=cell.config.evaluation_name or DEFAULT_EVALUATION,
                identity=cell.evaluation_identity,
                status="pending",
                settings=cell.written_settings[EVALUATE],
            )
        )
    return record.seen_by(evaluation)


def _there(run: RunDir) -> Record:
    record = run.read()
    if record is None:
        raise RunError(
            Fault("record-gone", "no longer exists: the folder was changed just now", file=str(run.record_path))
        )
    return record


def _pending(cell: Cell) -> Record:
    config = cell.config
    return Record(
        name=config.run_name,
        identity=cell.identity,
        status="pending",
        method=config.method.name,
        data="none" if config.method.trains == "nothing" else config.data.name,
        model=config.model.title,
        seed=config.seed,
        config=cell.written_settings,
        evaluation_defaults=dict(cell.evaluation_defaults),
    )


@dataclass
class Claim:
    """A cell that this process works on.

    The run's lock is held while it is trained; afterwards that of the evaluation alone, so that several evaluations of
    a run may go on at once.

    Attributes:
        cell: The cell.
        stop: What a signal has asked for.
    """

    cell: Cell
    stop: StopRequest
    _held: contextlib.ExitStack
    _training: contextlib.ExitStack

    in_training: bool = True
    is_in_charge: bool = True

    @property
    def record(self) -> Record:
        """The run's record."""
        return _there(self.cell.run)

    def seen(self) -> Record:
        """Return the run's record as the evaluation sees it."""
        return self.record.seen_by(self.cell.evaluation.read())

    def is_done(self) -> bool:
        """Return whether nothing is left to do."""
        return self.seen().status == "done"

    def note(self, **known: Any) -> Record:
        """Write what is known of the run before it is trained."""
        return self.cell.run.update(**known)

    def begin_training(self, **known: Any) -> Record:
        """Say that the run trains from here on."""
        run, record = self.cell.run, self.record
        sweep(run.path)
        run.write_config(OmegaConf.to_yaml(OmegaConf.create(record.config)))
        return run.update(
            status="running", process=this_process(), started=record.started or now(), finished=None, failure=None,
            **known,
        )  # fmt: skip

    def end_training(self, train: TrainRecord | None, **known: Any) -> Record:
        """Say that the weights are there, and begin the evaluation."""
        run, before = self.cell.run, self.record
        files = run.stamps()
        same = weights_of(before) and weights_of(before) == weights_of(before.updated(files=files))
        if weights_of(before) and not same:
            _set_evaluations_aside(run, before)
            before = run.update(evaluation=None, evaluation_name=None, zero_shot={}, status="trained")
        # Weights that were made again bit by bit leave what the record says of their training, and the evaluations.
        known |= {"status": "trained"} if before.evaluation is None else {"status": "done", "finished": now()}
        run.update(train=before.train if same else train, files=files, **known)
        return self.begin_evaluation()

    def begin_evaluation(self) -> Record:
        """Exchange the run's lock for that of the evaluation, and say that it is worked on from here on."""
        cell = self.cell
        # Another process may have come to the evaluation since it was looked at; it says itself how that ends.
        self.is_in_charge = False
        self._held.enter_context(cell.evaluation.lock())
        self.is_in_charge = True
        announce(cell)
        sweep(cell.evaluation.path)
        before = cell.evaluation.read()
        started = None if before is None else before.started
        cell.evaluation.update(
            status="running", process=this_process(), started=started or now(), finished=None, failure=None
        )
        record = self.record
        if record.status != "done":
            cell.run.update(status="trained", process=this_process(), failure=None, finished=None)
        self.in_training = False
        self._training.close()
        return self.record

    def reuse_all(self, ids: Sequence[str]) -> bool:
        """Take answers and exams from the run's other evaluations if everything is there; return whether it is."""
        return reuse(self.cell.run, self.cell.evaluation, self.cell.settings, ids, None)

    def place(self, environment: Environment, ids: Sequence[str]) -> None:
        """Note where the evaluation takes place; take over what other evaluations said in the same environment.

        What this one said in another environment is set aside: its scores would be a mixture.
        """
        folder = self.cell.evaluation
        set_aside_elsewhere(folder, environment)
        announce(self.cell)
        reuse(self.cell.run, folder, self.cell.settings, ids, environment)
        folder.update(environment=environment, status="running", process=this_process())

    def finish(self, result: EvaluationRecord) -> Record:
        """Write what came out, and return the run's record as this evaluation sees it.

        The run's own record and results are those of the default evaluation, or of the first one until there is such.
        """
        cell, run = self.cell, self.cell.run
        if not cell.evaluation.in_run:
            cell.evaluation.write_results(result)
        evaluation = cell.evaluation.update(status="evaluated", result=result)
        finished = now()
        # Before the evaluation is done, so that after a kill between the two the next start finishes it.
        with run.lock(WRITE_PATIENCE_SECONDS):
            record = upgrade(run, self.record)
            if record.evaluation_name in (None, evaluation.name) or evaluation.name == DEFAULT_EVALUATION:
                run.write_results(result)
                record = run.update(
                    evaluation=result, evaluation_name=evaluation.name, zero_shot=evaluation.exams, status="done",
                    failure=None, finished=record.finished or finished,
                )  # fmt: skip
        evaluation = cell.evaluation.update(status="done", finished=finished, files=cell.evaluation.stamps())
        return record.seen_by(evaluation)


def _set_evaluations_aside(run: RunDir, record: Record) -> None:
    """Move evaluations of weights that are no longer there out of the way."""
    for folder in evaluation_dirs(run, record):
        log.warning("%s: its weights were made again and are not the same; %s is moved aside", run.path, folder.path)
        folder.move_aside()


@contextlib.contextmanager
def claimed(cell: Cell) -> Iterator[Claim]:
    """Claim the cell for this process while the block runs; what goes wrong in it is recorded, and passed on.

    With `overwrite`, a folder that holds anything is moved aside first.

    Raises:
        MedQAError: as `find_earlier` does, or another process is at work.
        RunError: in place of an error that this package did not raise itself; its traceback goes to the log.
    """
    run = cell.run
    with contextlib.ExitStack() as held, contextlib.ExitStack() as training:
        try:
            training.enter_context(run.lock())
            # An empty folder is what Hydra's own launchers make for a job before it starts.
            if cell.config.overwrite and run.path.exists() and any(run.path.iterdir()):
                log.info("%s: moved aside to %s", run.path, run.move_aside())
            announce(cell)
            held.enter_context(log_to(run.log_path))
        except OSError as error:
            raise ConfigError(
                Fault("not-writable", f"cannot be written ({error})", key="outputs", got=cell.config.outputs)
            ) from None
        with _recording_failure(cell, held, training) as claim:
            yield claim


@contextlib.contextmanager
def _recording_failure(cell: Cell, held: contextlib.ExitStack, training: contextlib.ExitStack) -> Iterator[Claim]:
    run = cell.run
    claim = Claim(cell, StopRequest(), held, training)
    try:
        with stoppable() as stop:
            claim.stop = stop
            yield claim
    except MedQAError as error:
        faults = [fault.as_json() for fault in error.faults]
        _note(claim, "failed", Failure(type(error).__name__, str(error), final=True, faults=faults))
        raise
    except (Interrupted, KeyboardInterrupt) as error:
        kind = str(error) or type(error).__name__
        _note(claim, "interrupted", Failure(kind, "stopped from outside; the same command resumes it"))
        raise
    except BaseException as error:  # SystemExit, too: nothing in a run has a reason to end the process
        log.debug("%s", traceback.format_exc())
        fault = explain_failure(error).but(file=str(run.path))
        # Another try would run out of memory the same way.
        failure = Failure(
            type(error).__name__, fault.but(file=None).line(), final=is_out_of_memory(error), faults=[fault.as_json()]
        )
        _note(claim, "failed", failure)
        hint = f"{fault.hint} The traceback is in {run.log_path.name} there.".strip()
        raise RunError(fault.but(hint=hint)) from error


def explain_failure(error: BaseException) -> Fault:
    """Return what happened and what helps."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, SystemExit):
        return Fault("run-left", f"something in the run called sys.exit({error.code}) before it was done")
    if is_disk_full(error):
        return Fault(
            "disk-full", f"the disk is full ({text[:200]})",
            hint="What was finished is intact: free some space, and the same command resumes it.",
        )  # fmt: skip
    if is_out_of_memory(error):
        return Fault(
            "out-of-memory", f"out of memory ({text[:200]})",
            hint="Try a smaller train.micro_batch (same effective batch), method=qlora, or a shorter train.max_length; "
            "in the evaluation, a smaller evaluate.batch_tokens.",
        )  # fmt: skip
    return Fault("run-failed", f"{type(error).__name__}: {text}")


def _note(claim: Claim, status: str, failure: Failure) -> None:
    """Record how this process's work on a cell ended: of the evaluation once the weights are there."""
    cell = claim.cell
    ending: dict[str, Any] = {"status": status, "failure": failure, "finished": now()}
    if not claim.is_in_charge:
        return
    try:
        if not claim.in_training:
            cell.evaluation.update(**ending)
        with contextlib.nullcontext() if claim.in_training else cell.run.lock(WRITE_PATIENCE_SECONDS):
            # A run that has a finished evaluation stays done, unless it is being trained again.
            if _there(cell.run).status != "done":
                cell.run.update(**ending)
    except (MedQAError, OSError) as error:
        # The first error is the one to report; this one must not hide it.
        log.error("%s could not be written: %s", cell.run.record_path, error)
