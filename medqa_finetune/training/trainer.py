"""A Trainer that measures its cost, logs to the run folder, writes verified checkpoints and validates when due."""

import logging
import math
import time
from collections.abc import Callable, Sized
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from transformers import SchedulerType, TrainerCallback, TrainerControl, TrainerState

from medqa_finetune.compat.trainer import AdaptedTrainer
from medqa_finetune.config.schema import TrainConfig
from medqa_finetune.errors import Fault, RunError
from medqa_finetune.model.fp32_blocks import way_out_of_fp16
from medqa_finetune.progress import advance, within
from medqa_finetune.record.lease import check_held
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.stopping import StopRequest
from medqa_finetune.training.batches import Batch
from medqa_finetune.training.change import Sample, write_sample
from medqa_finetune.training.checkpoints import Checkpoints
from medqa_finetune.training.group import Group
from medqa_finetune.training.loss import AnswerLoss
from medqa_finetune.training.meters import Meter, MeterState, Reading, Work
from medqa_finetune.training.schedule import keep_to_steps, schedule_of

log = logging.getLogger(__name__)

# Figures of transformers that are dropped: its speeds include padding, validation and restarts (those of `Meter`
# replace them), and its mean loss covers only the steps since the last restart.
FOREIGN_FIGURES = {"total_flos", "train_loss"} | {
    f"{phase}_{figure}"
    for phase in ("train", "eval")
    for figure in ("runtime", "samples_per_second", "steps_per_second")
}

# torch's scaler begins at 2^16 and halves with every step it skips. Below 2^-8 it is not the scale that overflows.
MOST_SKIPPED_IN_A_ROW = 24


@dataclass(frozen=True)
class Progress:
    """State needed to resume, in addition to Trainer's own.

    Attributes:
        best_loss: Lowest validation loss so far, in nats per answer token; None before the first validation.
        best_step: Its step; 0 before the first validation.
        loss_sum: Sum of the mean losses of the steps after `logged_at`.
        logged_at: Last step with a point in the training curve.
        points: Number of points in the run's curves so far.
        meter: State of the meter.
        fused_adapters: Whether adapters are fused. Checkpoints of earlier versions lack it, and theirs were not.
        skipped_steps: Steps that trained nothing, because their gradients were not finite in fp16.
        skipped_in_a_row: Those of them since the last step that trained.
        processes: Number of processes that trained together.
    """

    best_loss: float | None = None
    best_step: int = 0
    loss_sum: float = 0.0
    logged_at: int = 0
    points: int = 0
    meter: MeterState = MeterState(Reading(), Reading(), (None, None, 0))  # noqa: RUF009 (frozen)
    fused_adapters: bool = False
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    processes: int = 1


class MeteredTrainer(AdaptedTrainer):
    """A Trainer that measures its cost, logs to the run folder, and tracks the step of the lowest validation loss."""

    def __init__(
        self,
        *,
        meter: Meter,
        run: RunDir,
        checkpoints: Checkpoints,
        progress: Progress,
        group: Group,
        start: Sample | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.meter = meter
        self.run = run
        self.checkpoints = checkpoints
        self.group = group
        self.start = start
        self.best_loss = math.inf if progress.best_loss is None else progress.best_loss
        self.best_step = progress.best_step
        self._logged_at = progress.logged_at
        self._loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=self.args.device)
        self._validated = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        self._validated_samples = 0
        self._answer_loss = AnswerLoss(self.model)
        self.fused_adapters = progress.fused_adapters
        if self.skips is not None:
            self.skips.start_at(progress.skipped_steps, progress.skipped_in_a_row)

    @property
    def skipped_steps(self) -> int | None:
        """Number of steps that trained nothing; None where none can be skipped. Waits for the device."""
        return None if self.skips is None else self.skips.read()[0]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule of the learning rate, in which every step trains."""
        if self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            name = str(SchedulerType(self.args.lr_scheduler_type).value)
            stepped: Any = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = schedule_of(name, stepped, warmup, num_training_steps)
        return self.lr_scheduler

    def take_step(self, model: torch.nn.Module, item: dict[str, Any]) -> torch.Tensor:
        """Train on one optimizer step, batch after batch, and return its mean loss in nats per answer token.

        Of several processes, each trains on its share of the step; the mean over them is the step's.
        """
        work: Work = item["work"]
        tokens = work.answer_tokens
        *batches, last = item["batches"]
        with self.gradients_kept(model):
            losses = [self.backward(model, batch, tokens) for batch in batches]
        losses.append(self.backward(model, last, tokens))
        loss = torch.stack(losses).sum()
        self.meter.count(work)
        self._loss_sum += loss
        # On a GPU, reading every loss would make the host wait for each step.
        is_whole = loss.device.type == "cpu" and self.group.size == 1
        advance(self.state.global_step + 1, loss=loss.item() if is_whole else None)
        return loss

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Validate with the meter paused; record the step if its loss is the lowest so far and any step trained."""
        self.meter.pause()
        with within("validating", len(cast(Sized, self.eval_dataset))):
            metrics: dict[str, float] = super().evaluate(*arguments, **options)
        has_trained = (self.skipped_steps or 0) < self.state.global_step
        if has_trained and metrics["eval_loss"] < self.best_loss:
            self.best_loss, self.best_step = metrics["eval_loss"], self.state.global_step
        if not self.control.should_save:
            self.meter.resume()
        return metrics

    def loss_of(self, model: torch.nn.Module, batch: dict[str, Any], tokens: int) -> torch.Tensor:
        """Return the summed loss of a batch divided by the answer tokens of its whole optimizer step.

        Times the number of processes, over which losses and gradients are averaged.
        """
        with self.accelerator.autocast():
            summed: torch.Tensor = self._answer_loss(model, cast("Batch", batch))
        return summed * self.group.size / tokens

    def validate_on(self, model: torch.nn.Module, item: dict[str, Any]) -> torch.Tensor:
        """Add one item of the validation loader to the sums of `validated_loss`; return its mean loss."""
        with torch.no_grad(), self.accelerator.autocast():
            losses = [self._answer_loss(model, cast("Batch", self.on_device(batch))) for batch in item["batches"]]
        work: Work = item["work"]
        loss, tokens = torch.stack(losses).sum() * self.group.size, work.answer_tokens
        self._validated += torch.stack([loss.double(), torch.full_like(loss, tokens).double()])
        self._validated_samples += work.samples
        advance(self._validated_samples)
        return loss / tokens

    def validated_loss(self) -> float:
        """Return the mean loss over all answer tokens since the last call, independent of `train.micro_batch`."""
        summed, tokens = self.group.mean(self._validated).tolist()
        self._validated.zero_()
        self._validated_samples = 0
        return float(summed / tokens)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add throughput and memory to the logs, and append them to `metrics.jsonl`.

        Raises:
            RunError: the training or validation loss is not finite.
        """
        logs = {name: value for name, value in logs.items() if name not in FOREIGN_FIGURES}
        if "loss" in logs:
            # Trainer's own mean omits the steps between the last point and the checkpoint that training resumed from.
            logs["loss"] = self.group.mean(self._loss_sum).item() / (self.state.global_step - self._logged_at)
            advance(self.state.global_step, loss=logs["loss"])
            self._logged_at = self.state.global_step
            self._loss_sum.zero_()
            _, tokens_per_second = self.meter.throughput()
            logs |= {} if tokens_per_second is None else {"tokens_per_second": tokens_per_second}
            logs |= self.meter.gauges()
            logs |= {} if self.skips is None else {"skipped_steps": self.skips.read()[0]}
        if logs.keys() <= {"epoch"}:
            return
        for name in ("loss", "eval_loss"):
            if name in logs and not math.isfinite(logs[name]):
                self._stop(name, "validation loss" if name == "eval_loss" else "training loss", logs[name])
        super().log(logs, start_time)
        if not self.group.is_first:
            return
        # The gradient norm may be infinite in fp16, where the scaler then skips the step; JSON has no infinity.
        finite = {name: value if math.isfinite(value) else None for name, value in logs.items()}
        self.run.log_metrics({"step": self.state.global_step, "steps": self.state.max_steps, **finite})
        # Lines of progress say the training loss once a minute.
        level = logging.DEBUG if "loss" in logs else logging.INFO
        log.log(level, "step %d/%d  %s", self.state.global_step, self.state.max_steps, _as_text(logs))
        self._check_skips()

    def publish(self, step: int) -> None:
        """Publish the checkpoint that Trainer has just written.

        Raises:
            RunError: a loss or a weight in it is not finite, or skipped steps do not end; nothing is published.
        """
        self._check_skips()
        loss_sum = self.group.mean(self._loss_sum).item()
        if not math.isfinite(loss_sum):
            self._stop("loss", "training loss", loss_sum)
        is_finite = all(bool(torch.isfinite(weight).all()) for weight in self.trained_weights())
        if any(self.group.largest(not is_finite)):
            self._stop("weights", "weights", math.nan)
        # From here on, every process has written its random state.
        self.meter.join_peaks(self.group)
        if self.group.is_first:
            self._publish(step, loss_sum)
        self.group.share(None)  # nobody trains on before it is there

    def _publish(self, step: int, loss_sum: float) -> None:
        best_loss = None if math.isinf(self.best_loss) else self.best_loss
        points = len(self.run.read_metrics())
        curve = (best_loss, self.best_step, loss_sum, self._logged_at, points)
        skipped = (0, 0) if self.skips is None else self.skips.read()
        progress = Progress(*curve, self.meter.state(), self.fused_adapters, *skipped, self.group.size)
        if self.start is not None:
            write_sample(self.start, self.checkpoints.written(step))
        self.checkpoints.publish(step, self.best_step, asdict(progress))

    def _check_skips(self) -> None:
        """Stop where the scaler skips one step after another: smaller gradients do not help.

        Raises:
            RunError: it does.
        """
        total, in_a_row = (0, 0) if self.skips is None else self.skips.read()
        if in_a_row < MOST_SKIPPED_IN_A_ROW:
            return
        step = self.state.global_step
        problem = (
            f"the gradients of the last {in_a_row} steps were not finite in fp16, so that these trained nothing "
            f"({total} of {step} in all); {self._left()}"
        )
        raise RunError(Fault("steps-skipped", problem, key="step", got=step, hint=self._way_out()))

    def _left(self) -> str:
        kept = self.checkpoints.newest()
        if kept is None:
            return "no weights were kept"
        return f"the weights of step {kept} are in {self.checkpoints.path(kept)}"

    def _way_out(self) -> str:
        rate = f"train.learning_rate (now {self.args.learning_rate:g})"
        if self.skips is None:
            return f"Give a lower {rate}, or precision=bf16 or fp32."
        return f"Give {way_out_of_fp16(self.model)}, or a lower {rate}."

    def _stop(self, key: str, what: str, value: float) -> None:
        problem = f"the {what} became {value} at step {self.state.global_step}; {self._left()}"
        raise RunError(Fault("not-finite", problem, key=key, got=value, hint=self._way_out()))


def _as_text(logs: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "epoch")


@dataclass(frozen=True)
class Plan:
    """When to validate, write checkpoints and stop.

    Attributes:
        validate_after: Steps after which to validate; a checkpoint follows each validation.
        train: Contains the warm-up steps of the meter and the interval of checkpoints.
        stop: The request to stop; training stops at the end of a step, with a checkpoint.
        group: The processes that train together, which agree on both.
    """

    validate_after: frozenset[int]
    train: TrainConfig
    stop: StopRequest
    group: Group


class Milestones(TrainerCallback):
    """Requests validation, checkpoints and the stop when they are due, and controls the meter.

    Args:
        plan: When validation, checkpoints and the stop are due.
        meter: Meter of the training.
        publish: Called with the step when Trainer has written a checkpoint.
    """

    def __init__(self, plan: Plan, meter: Meter, publish: Callable[[int], None]) -> None:
        self._plan = plan
        self._meter = meter
        self._publish = publish
        self._warm_at = 0
        self._saved_at = 0.0

    def on_train_begin(self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Start the meter, and note when its warm-up ends."""
        self._saved_at = time.monotonic()
        self._warm_at = state.global_step + self._plan.train.warmup_steps_unmetered
        self._meter.resume()
        if self._warm_at == state.global_step:
            self._meter.mark_warm()

    def on_step_end(
        self, args: object, state: TrainerState, control: TrainerControl, *, lr_scheduler: Any = None, **kwargs: object
    ) -> None:
        """End the meter's warm-up, keep the learning rate's schedule to the steps, and request what is due."""
        if lr_scheduler is not None:
            keep_to_steps(lr_scheduler, state.global_step)
        if state.global_step == self._warm_at:
            self._meter.mark_warm()
        if state.global_step in self._plan.validate_after:
            control.should_evaluate = control.should_save = True
        if state.global_step >= state.max_steps:
            control.should_log = True
        # Clocks differ between processes, and a signal may reach one of them alone.
        is_due, stop = self._plan.group.largest(self._is_checkpoint_due(state.global_step), self._plan.stop.number or 0)
        if is_due:
            control.should_save = True
        if stop:
            self._plan.stop.take_over(stop)
            control.should_save = control.should_training_stop = True
        if control.should_save:
            # Trainer writes a checkpoint's files by itself.
            check_held()
            self._meter.pause()

    def _is_checkpoint_due(self, step: int) -> bool:
        every = self._plan.train.checkpoint_steps
        if every is not None and step % every == 0:
            return True
        return time.monotonic() - self._saved_at >= 60 * self._plan.train.checkpoint_minutes

    def on_save(self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Publish the checkpoint that Trainer has written, then resume the meter."""
        self._publish(state.global_step)
        self._saved_at = time.monotonic()
        self._meter.resume()

    def on_train_end(self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Pause the meter."""
        self._meter.pause()
