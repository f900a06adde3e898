"""Train: transformers' Trainer through its public hooks, metered, validated, the best weights kept."""

import logging
import math
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.training_args import OptimizerNames

from medqa_finetune.config.schema import Config, TrainConfig
from medqa_finetune.data.encode import EncodedSet
from medqa_finetune.errors import RunError
from medqa_finetune.model.load import Device, LoadedModel
from medqa_finetune.record.files import replace_folder
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import TrainRecord
from medqa_finetune.training.batches import Batch, answer_loss, concatenate
from medqa_finetune.training.meters import Meter, Reading, peak_rss_bytes

log = logging.getLogger(__name__)

# transformers' own speed figures count padding, validation and restarts; ours replace them.
FOREIGN_FIGURES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos",
                   "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")  # fmt: skip


@dataclass(frozen=True)
class TrainingSets:
    """What is trained and validated on, encoded."""

    train: EncodedSet
    validation: EncodedSet


def fit(loaded: LoadedModel, sets: TrainingSets, config: Config, run: RunDir) -> TrainRecord:
    """Train the model in place; it ends with the weights of the lowest validation loss, also in `run.adapter_path`.

    Raises:
        RunError: the training or validation loss became NaN or infinite.
    """
    steps = total_steps(len(sets.train), config.train)
    arguments = training_arguments(config, run, steps, loaded.device)
    meter = Meter(loaded.device.type)
    trainer = MeteredTrainer(
        model=loaded.model,
        args=arguments,
        train_dataset=PairDataset(sets.train),
        eval_dataset=PairDataset(sets.validation),
        data_collator=concatenate,
        callbacks=[_Milestones(meter, config.train.warmup_steps_unmetered, validation_steps(steps, config.train))],
        meter=meter,
        run=run,
        tokenizer=loaded.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    result = trainer.train()
    trainer.restore_best()
    return _train_record(trainer, result.training_loss, sets.train.cut, config.train)


def total_steps(pairs: int, train: TrainConfig) -> int:
    """Return the number of optimizer steps; the last batch of an epoch may be smaller than the others."""
    per_epoch = math.ceil(math.ceil(pairs / train.micro_batch) / (train.batch_size // train.micro_batch))
    steps = math.ceil(per_epoch * train.epochs)
    return steps if train.max_steps is None else min(steps, train.max_steps)


def validation_steps(steps: int, train: TrainConfig) -> frozenset[int]:
    """Return the steps after which is validated: `train.validations` of them, evenly spread, the last step included."""
    return frozenset(math.ceil(steps * number / train.validations) for number in range(1, train.validations + 1))


def training_arguments(config: Config, run: RunDir, steps: int, device: Device) -> TrainingArguments:
    """Translate our settings into transformers' own."""
    train = config.train
    # Named here, since transformers takes the event folder from the environment alone.
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.tensorboard_path)
    cuda = device.type == "cuda"
    return TrainingArguments(
        output_dir=str(run.checkpoints_path),
        per_device_train_batch_size=train.micro_batch,
        per_device_eval_batch_size=train.micro_batch,
        gradient_accumulation_steps=train.batch_size // train.micro_batch,
        num_train_epochs=train.epochs,
        max_steps=steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.scheduler,
        warmup_steps=math.ceil(train.warmup_ratio * steps),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_gradient_norm,
        optim=config.method.optimizer if cuda else config.method.optimizer_without_cuda,
        **_checkpointing(train),
        logging_steps=train.logging_steps,
        logging_nan_inf_filter=False,  # the default hides NaN losses
        eval_strategy="steps",
        eval_steps=steps,  # _Milestones asks for the others
        prediction_loss_only=True,
        save_strategy="no",
        report_to=list(config.tracker.report_to),
        run_name=run.path.name,
        disable_tqdm=not os.isatty(2),
        seed=config.seed,
        data_seed=config.seed,
        use_cpu=not cuda,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=cuda,
        bf16=cuda and device.precision == "bf16",
        fp16=device.precision == "fp16",
    )


def _checkpointing(train: TrainConfig) -> dict[str, Any]:
    """Return the switch for gradient checkpointing, which newer transformers call activation checkpointing."""
    known = TrainingArguments.__dataclass_fields__
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return {name: train.gradient_checkpointing, f"{name}_kwargs": {"use_reentrant": False}}


class PairDataset(Dataset[dict[str, list[int]]]):
    """Encoded pairs, as torch's loader wants them."""

    def __init__(self, encoded: EncodedSet) -> None:
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        """Return `{"input_ids", "labels"}` of one pair."""
        item: dict[str, list[int]] = self._encoded[index]
        return item


class _Milestones(TrainerCallback):
    """Starts the meter with the training loop and its throughput after the warm-up steps, and says when to validate."""

    def __init__(self, meter: Meter, warm_up: int, validate_after: frozenset[int]) -> None:
        self._meter = meter
        self._warm_up = warm_up
        self._validate_after = validate_after

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._meter.resume()
        if self._warm_up == 0:
            self._meter.mark_warm()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._warm_up:
            self._meter.mark_warm()
        if state.global_step in self._validate_after:
            control.should_evaluate = True
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._meter.pause()


class MeteredTrainer(Trainer):
    """A Trainer that meters itself, logs to the run folder, and keeps the weights of the lowest validation loss."""

    def __init__(self, *, meter: Meter, run: RunDir, tokenizer: PreTrainedTokenizerBase, **options: Any) -> None:
        super().__init__(**options)
        self.meter = meter
        self.run = run
        self.best_loss = math.inf
        self.best_step = 0
        self._tokenizer = tokenizer
        self._best: dict[str, torch.Tensor] = {}
        self._validated = torch.zeros(2)
        # Tells Trainer to count the answer tokens of a step, and that `compute_loss` has divided by them.
        self.model_accepts_loss_kwargs = True

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *arguments: Any, **options: Any
    ) -> torch.Tensor:
        """Count the micro-batch, then train on it."""
        self.meter.count(inputs["position_ids"].to(self.args.device), inputs["labels"].to(self.args.device))
        return super().training_step(model, inputs, *arguments, **options)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Validate with the meter stopped; keep the weights if they are the best so far."""
        self.meter.pause()
        metrics: dict[str, float] = super().evaluate(*arguments, **options)
        if metrics["eval_loss"] < self.best_loss:
            self._keep(metrics["eval_loss"])
        self.meter.resume()
        return metrics

    def evaluation_loop(self, *arguments: Any, **options: Any) -> Any:
        """Validate; the loss is the mean over all answer tokens, whatever `train.micro_batch` is.

        transformers' own is a mean over batches, in which the tokens of short answers weigh more.
        """
        self._validated = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        output: Any = super().evaluation_loop(*arguments, **options)
        summed, tokens = self.accelerator.gather(self._validated).reshape(-1, 2).sum(dim=0).tolist()
        output.metrics["eval_loss"] = summed / tokens
        return output

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the mean loss over the answer tokens of the whole optimizer step, all its micro-batches included."""
        loss, tokens = answer_loss(model, inputs)
        return loss / (tokens if num_items_in_batch is None else num_items_in_batch)

    def prediction_step(self, model: torch.nn.Module, inputs: Batch, *arguments: Any, **options: Any) -> Any:
        """Add a batch to what `evaluation_loop` sums up."""
        with torch.no_grad():
            loss, tokens = answer_loss(model, self._prepare_inputs(inputs))
        self._validated += torch.stack([loss.double(), tokens.double()])
        return loss / tokens, None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add our figures, write `metrics.jsonl`, and stop on a loss that is not a number."""
        for name in ("loss", "eval_loss"):
            if name in logs and not math.isfinite(logs[name]):
                self._stop(name, logs[name])
        logs = {name: value for name, value in logs.items() if name not in FOREIGN_FIGURES}
        if "loss" in logs:
            _, tokens_per_second = self.meter.throughput()
            logs |= {} if tokens_per_second is None else {"tokens_per_second": tokens_per_second}
            logs |= self.meter.gauges()
        super().log(logs, start_time)
        # The gradient norm may be infinite in fp16, where the scaler then skips the step; JSON has no infinity.
        finite = {name: value if math.isfinite(value) else None for name, value in logs.items()}
        self.run.log_metrics({"step": self.state.global_step, "steps": self.state.max_steps, **finite})
        log.info("step %d/%d  %s", self.state.global_step, self.state.max_steps, _as_text(logs))

    def restore_best(self) -> None:
        """Put the kept weights back into the model."""
        with torch.no_grad():
            for name, parameter in self._trainable():
                parameter.copy_(self._best[name])

    def _keep(self, loss: float) -> None:
        self.best_loss, self.best_step = loss, self.state.global_step
        self._best = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self._trainable()}
        model = self.accelerator.unwrap_model(self.model)

        def fill(folder: Any) -> None:
            model.save_pretrained(folder)
            self._tokenizer.save_pretrained(folder)

        replace_folder(self.run.adapter_path, fill)

    def _trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        model = self.accelerator.unwrap_model(self.model)
        return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]

    def _stop(self, name: str, value: float) -> None:
        what = "validation loss" if name == "eval_loss" else "training loss"
        kept = (
            f"the weights of step {self.best_step} are kept in {self.run.adapter_path}"
            if self._best
            else "no weights were kept"
        )
        raise RunError(
            f"the {what} became {value} at step {self.state.global_step}; {kept}. "
            f"Try a lower train.learning_rate (now {self.args.learning_rate:g}), or precision=bf16 or fp32."
        )


def _as_text(logs: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "epoch")


def _train_record(trainer: MeteredTrainer, mean_loss: float, truncated: int, train: TrainConfig) -> TrainRecord:
    reading: Reading = trainer.meter.read()
    samples_per_second, tokens_per_second = trainer.meter.throughput()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return TrainRecord(
        samples=reading.samples,
        tokens=reading.tokens,
        answer_tokens=reading.answer_tokens,
        steps=trainer.state.global_step,
        epochs=round(float(trainer.state.epoch), 4),
        seconds=reading.seconds,
        optimizer=str(OptimizerNames(trainer.args.optim).value),
        truncated=truncated,
        batch_size=train.batch_size,
        micro_batch=train.micro_batch,
        samples_per_second=samples_per_second,
        tokens_per_second=tokens_per_second,
        peak_vram_bytes=trainer.meter.peak_vram_bytes(),
        peak_vram_reserved_bytes=trainer.meter.peak_vram_reserved_bytes(),
        peak_rss_bytes=peak_rss_bytes(),
        final_train_loss=losses[-1] if losses else mean_loss,
        best_validation_loss=trainer.best_loss,
        best_step=trainer.best_step,
    )
