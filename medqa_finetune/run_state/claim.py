"""A process claims a cell: holds its locks, writes its statuses, and records how the work ended."""

import contextlib
import logging
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from medqa_finetune.cell import Cell
from medqa_finetune.compat.failures import is_disk_full, is_out_of_memory
from medqa_finetune.config.identity import DEFAULT_EVALUATION, EVALUATE
from medqa_finetune.errors import ConfigError, Fault, MedQAError, RunError
from medqa_finetune.evaluation.reuse import reuse, set_aside_elsewhere
from medqa_finetune.log import log_to
from medqa_finetune.methods.registry import method_of
from medqa_finetune.ranks import RankLostError
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.files import sweep
from medqa_finetune.record.lease import Lease, check_held
from medqa_finetune.record.run_dir import RunDir, now, this_process
from medqa_finetune.record.schema import (
    Environment,
    Evaluation,
    EvaluationRecord,
    Failure,
    Process,
    Record,
    TrainRecord,
)
from medqa_finetune.record.version_1 import upgrade
from medqa_finetune.run_state.resume import checked_record, own_record, weights_of
from medqa_finetune.run_state.tracker_rows import row_of
from medqa_finetune.stopping import Interrupted, StopRequest, stoppable
from medqa_finetune.storage.keeper import Keeper, kept
from medqa_finetune.tracking.trackers import Trackers

log = logging.getLogger(__name__)

# Longest wait for the run's lock to write results, for which others hold it briefly too.
WRITE_PATIENCE_SECONDS = 600.0


def ensure_records(cell: Cell) -> Record:
    """Ensure that the cell has records of this configuration, with the status `pending` if they are new.

    The caller holds the run's lock.

    Raises:
        MedQAError: the folder holds another run, or a record in it cannot be read.
    """
    found = checked_record(cell)
    record = cell.run.write(_pending(cell)) if found is None else upgrade(cell.run, found, cell.evaluation_defaults)
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


def _pending(cell: Cell) -> Record:
    config = cell.config
    return Record(
        name=config.run_name,
        identity=cell.identity,
        status="pending",
        method=config.method.name,
        data=config.data.name if method_of(config.method).uses_training_data else "none",
        model=config.model.title,
        seed=config.seed,
        config=cell.written_settings,
        evaluation_defaults=dict(cell.evaluation_defaults),
    )


@dataclass
class Claim:
    """A cell that this process works on.

    The run's lock is held during training; afterwards only the evaluation's, so that several evaluations of a run can
    be made at once.

    Attributes:
        cell: The cell.
        stop: Whether a signal has asked to stop.
        trackers: What the settings report to; opened when they are needed.
        in_training: Whether the run's lock is still held.
        is_in_charge: Whether this process records how the work ends.
        leases: Leases that it has taken for the cell.
    """

    cell: Cell
    stop: StopRequest
    trackers: Trackers
    _held: contextlib.ExitStack
    _training: contextlib.ExitStack

    _keeper: Keeper | None = None
    in_training: bool = True
    is_in_charge: bool = True
    leases: list[Lease] = field(default_factory=list)

    @property
    def record(self) -> Record:
        """The run's record, read from disk."""
        return own_record(self.cell.run)

    @property
    def begun_on(self) -> str | None:
        """Name of the device on which an earlier start of the run computed; None for a new run."""
        environment = self.record.environment
        return None if environment is None else environment.device

    def cell_record(self) -> Record:
        """Return the run's record with the result of this cell's evaluation."""
        return self.record.seen_by(self.cell.evaluation.read())

    def is_done(self) -> bool:
        """Return whether training and evaluation are complete."""
        return self.cell_record().status == "done"

    def lose(self, error: RankLostError) -> None:
        """Record at once that another process of the training is gone: how this one ends changes nothing then."""
        fault = error.fault.but(file=str(self.cell.run.path))
        _note(self, "failed", _failure_of(error, fault))
        self.is_in_charge = False

    def heed(self, lease: Lease) -> None:
        """Stop if another process takes a lease over; nothing more is written then."""
        # By its name at that time: the request is another one once signals are handled.
        lease.on_loss = lambda: self.stop.ask()  # noqa: PLW0108
        self.leases.append(lease)

    @property
    def has_lost_a_lease(self) -> bool:
        """Whether another process is known to have taken a lease over."""
        return any(lease.is_lost() for lease in self.leases)

    @contextlib.contextmanager
    def raising_losses(self) -> Iterator[None]:
        """Raise the loss of a lease in place of any error in the block, and record nothing then: the run is another's.

        Raises:
            RunError: another process has taken a lease over; names it.
        """
        try:
            yield
        except BaseException:
            for lease in self.leases:
                try:
                    lease.check()
                except RunError:
                    self.is_in_charge = False
                    raise
                except OSError as error:
                    log.debug("a lease cannot be read: %s", error)
            raise

    def store_soon(self) -> None:
        """Store the run as it is now, where a storage is set, in the background.

        Raises:
            RunError: another machine has taken the run over.
        """
        if self._keeper is not None:
            self._keeper.store_soon()

    def update_run(self, **known: Any) -> Record:
        """Add fields that are known before training to the run's record."""
        return self.cell.run.update(**known)

    def begin_training(self, **known: Any) -> Record:
        """Record that the run is in training."""
        run, record = self.cell.run, self.record
        # Damaged weights are trained again, but not while another process evaluates them.
        for folder in evaluation_dirs(run, record):
            folder.check_free()
        sweep(run.path)
        run.write_config(OmegaConf.to_yaml(OmegaConf.create(record.config)))
        return run.update(
            status="running",
            process=this_process(),
            started=record.started or now(),
            finished=None,
            failure=None,
            **known,
        )

    def end_training(self, train: TrainRecord | None, **known: Any) -> Record:
        """Record that the training is complete, and begin the evaluation."""
        run, before = self.cell.run, self.record
        files = run.stamps()
        same = weights_of(before) and weights_of(before) == weights_of(before.updated(files=files))
        if weights_of(before) and not same:
            _set_evaluations_aside(run, before)
            before = run.update(evaluation=None, evaluation_name=None, zero_shot={}, status="trained")
        # Bit-identical weights keep the record of their training, and their evaluations.
        known |= {"status": "trained"} if before.evaluation is None else {"status": "done", "finished": now()}
        run.update(train=before.train if same else train, files=files, **known)
        self.store_soon()
        return self.begin_evaluation()

    def begin_evaluation(self) -> Record:
        """Lock the evaluation, record that it is running, and release the run's lock."""
        cell = self.cell
        # If another process has locked the evaluation, that process records how it ends.
        self.is_in_charge = False
        self.heed(self._held.enter_context(cell.evaluation.lock(watches=True)))
        self.is_in_charge = True
        ensure_records(cell)
        sweep(cell.evaluation.path)
        _sweep_after_training(cell.run)
        self._run_evaluation(finished=None, failure=None)
        record = self.record
        if record.status != "done":
            # A run that was killed while its weights were remade has a finished evaluation.
            is_of_another = record.evaluation is not None and record.evaluation_name != cell.config.evaluation_name
            known = {"status": "done", "finished": now()} if is_of_another else {"status": "trained", "finished": None}
            cell.run.update(process=this_process(), failure=None, **known)
        self.in_training = False
        self._training.close()
        return self.record

    def reuse_all(self, ids: Sequence[str]) -> bool:
        """Reuse predictions and benchmark scores of the run's other evaluations; return whether none is missing."""
        return reuse(self.cell.run, self.cell.evaluation, self.cell.settings, ids, None)

    def begin_predictions(self, environment: Environment, ids: Sequence[str]) -> None:
        """Record the evaluation's environment, and reuse predictions of other evaluations from the same environment.

        This evaluation's predictions from another environment are set aside, since its scores would mix both.
        """
        folder = self.cell.evaluation
        set_aside_elsewhere(folder, environment)
        ensure_records(self.cell)
        reuse(self.cell.run, folder, self.cell.settings, ids, environment)
        self._run_evaluation(environment=environment)

    def _run_evaluation(self, **known: Any) -> None:
        """Record that this process works on the evaluation; an earlier start time stays."""
        before = self.cell.evaluation.read()
        started = None if before is None else before.started
        self.cell.evaluation.update(status="running", process=this_process(), started=started or now(), **known)

    def finish(self, result: EvaluationRecord) -> Record:
        """Write the results, and return the run's record with them.

        The run's own record and results are those of the default evaluation, or of the first one until that exists.
        """
        cell, run = self.cell, self.cell.run
        if not cell.evaluation.in_run:
            cell.evaluation.write_results(result)
        evaluation = cell.evaluation.update(status="evaluated", result=result)
        finished = now()
        # Written before the evaluation is `done`: after a kill between the two, the next start finishes it.
        with run.lock(WRITE_PATIENCE_SECONDS):
            check_held()  # of the evaluation too, whose results are written into the run's folder
            record = upgrade(run, self.record)
            if record.evaluation_name in (None, evaluation.name) or evaluation.name == DEFAULT_EVALUATION:
                run.write_results(result)
                record = run.update(
                    evaluation=result,
                    evaluation_name=evaluation.name,
                    zero_shot=evaluation.exams,
                    status="done",
                    failure=None,
                    finished=record.finished or finished,
                )
        evaluation = cell.evaluation.update(status="done", finished=finished, files=cell.evaluation.stamps())
        self.trackers.report()
        return record.seen_by(evaluation)


def _sweep_after_training(run: RunDir) -> None:
    """Remove partly written files that killed processes left in the folder of a trained run.

    The caller holds the run's lock, which every writer of these files needs. The exception is the record of the
    evaluation that version 1 stored there, which has its own lock.
    """
    first = EvaluationDir(run.path, in_run=True)
    own = (run.record_path, run.config_path, *run.curves_paths, run.results_path)
    for path in (*own, *(() if first.is_locked() else (first.record_path,))):
        sweep(run.path, path.name)


def _set_evaluations_aside(run: RunDir, record: Record) -> None:
    """Move evaluations of weights that no longer exist aside."""
    for folder in evaluation_dirs(run, record):
        log.warning("%s: its weights were made again and are not the same; %s is moved aside", run.path, folder.path)
        folder.move_aside()


@contextlib.contextmanager
def claimed(cell: Cell) -> Iterator[Claim]:
    """Claim the cell for this process while the block runs; errors in it are recorded and raised again.

    With `overwrite`, a folder that is not empty is moved aside first.

    Raises:
        MedQAError: as `earlier_record` does, or another process works on the cell, or has taken it over.
        RunError: in place of any error that is not a MedQAError; its traceback is in the log.
    """
    run = cell.run
    with contextlib.ExitStack() as last, contextlib.ExitStack() as held, contextlib.ExitStack() as training:
        try:
            lease = training.enter_context(run.lock(watches=True))
            # Its end is stored when everything else is written.
            keeper = last.enter_context(kept(cell.config))
            # Hydra's own launchers make an empty folder before a job starts.
            if cell.config.overwrite and run.path.exists() and any(run.path.iterdir()):
                log.info("%s: moved aside to %s", run.path, run.move_aside())
            # From here on, what is in the folder is this run's own.
            cell = cell.without_overwriting()
            ensure_records(cell)
            claim = Claim(cell, StopRequest(), _trackers_of(cell), held, training, keeper)
            claim.heed(lease)
            held.enter_context(log_to(run.log_path, unless=lambda: claim.has_lost_a_lease))
        except OSError as error:
            raise ConfigError(
                Fault("not-writable", f"cannot be written ({error})", key="outputs", got=cell.config.outputs)
            ) from None
        with _recording_failure(claim):
            yield claim


@contextlib.contextmanager
def _recording_failure(claim: Claim) -> Iterator[None]:
    run = claim.cell.run
    try:
        with stoppable() as stop, claim.raising_losses(), claim.trackers:
            claim.stop = stop
            yield
    except MedQAError as error:
        faults = [fault.as_json() for fault in error.faults]
        _note(claim, "failed", Failure(type(error).__name__, str(error), final=True, faults=faults))
        raise
    except (Interrupted, KeyboardInterrupt) as error:
        kind = str(error) or type(error).__name__
        _note(claim, "interrupted", Failure(kind, "stopped from outside; the same command resumes it"))
        raise
    except BaseException as error:  # SystemExit too, which nothing in a run should raise
        log.debug("%s", traceback.format_exc())
        fault = explain_failure(error).but(file=str(run.path))
        _note(claim, "failed", _failure_of(error, fault))
        hint = f"{fault.hint} The traceback is in {run.log_path.name} there.".strip()
        raise RunError(fault.but(hint=hint)) from error


def _failure_of(error: BaseException, fault: Fault) -> Failure:
    # A retry would run out of memory the same way.
    final = error.is_final if isinstance(error, RankLostError) else is_out_of_memory(error)
    return Failure(type(error).__name__, fault.but(file=None).line(), final=final, faults=[fault.as_json()])


def record_loss_of_first(run: RunDir, pid: int, error: RankLostError) -> None:
    """Record that the process of a run is gone, from another one that trained with it; nothing if it said so itself.

    Args:
        run: The run.
        pid: Id of the run's process, on this machine.
        error: What is known of its end.
    """
    with contextlib.suppress(MedQAError, OSError), run.lock():
        record = run.read()
        gone = Process(pid, this_process().host)
        if record is not None and record.status == "running" and record.process == gone:
            fault = error.fault.but(file=str(run.path))
            run.update(status="failed", failure=_failure_of(error, fault), finished=now())


def _trackers_of(cell: Cell) -> Trackers:
    outputs = Path(cell.config.outputs)
    return Trackers(cell.config.tracker.report_to, lambda: row_of(cell.run, cell.evaluation, outputs))


def _note(claim: Claim, status: str, failure: Failure) -> None:
    """Record how this process's work on a cell ended, also in the evaluation once the run is trained."""
    cell = claim.cell
    ending: dict[str, Any] = {"status": status, "failure": failure, "finished": now()}
    if not claim.is_in_charge:
        return
    try:
        if not claim.in_training:
            cell.evaluation.update(**ending)
        with contextlib.nullcontext() if claim.in_training else cell.run.lock(WRITE_PATIENCE_SECONDS):
            # A run with a finished evaluation stays `done`, unless it is being trained again.
            if own_record(cell.run).status != "done":
                cell.run.update(**ending)
    except (MedQAError, OSError) as error:
        # Must not hide the first error, which is raised.
        log.error("%s could not be written: %s", cell.run.record_path, error)


def explain_failure(error: BaseException) -> Fault:
    """Return the fault of an unexpected error in a run, with a hint where a remedy is known."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, RankLostError):
        return error.fault
    if isinstance(error, SystemExit):
        return Fault("run-left", f"something in the run called sys.exit({error.code}) before it was done")
    if is_disk_full(error):
        return Fault(
            "disk-full",
            f"the disk is full ({text[:200]})",
            hint="What was finished is intact: free some space, and the same command resumes it.",
        )
    if is_out_of_memory(error):
        return Fault(
            "out-of-memory",
            f"out of memory ({text[:200]})",
            hint="Try a smaller train.micro_batch (same effective batch), method=qlora, or a shorter train.max_length; "
            "in the evaluation, a smaller evaluate.batch_tokens.",
        )
    return Fault("run-failed", f"{type(error).__name__}: {text}")
