"""transformers' Trainer, metered, logging to the run folder, keeping the best weights."""

import logging
import math
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from medqa_finetune.errors import RunError
from medqa_finetune.record.files import replace_folder
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.training.batches import Batch, answer_loss
from medqa_finetune.training.meters import Meter

log = logging.getLogger(__name__)

# transformers' own speed figures count padding, validation and restarts; ours replace them.
FOREIGN_FIGURES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos",
                   "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")  # fmt: skip


class Milestones(TrainerCallback):
    """Starts the meter with the training loop and its throughput after the warm-up steps, and says when to validate."""

    def __init__(self, meter: Meter, warm_up: int, validate_after: frozenset[int]) -> None:
        self._meter = meter
        self._warm_up = warm_up
        self._validate_after = validate_after

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the stopwatch."""
        self._meter.resume()
        if self._warm_up == 0:
            self._meter.mark_warm()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the warm-up, and ask for validation and for a last point of the curves where they are due."""
        if state.global_step == self._warm_up:
            self._meter.mark_warm()
        if state.global_step in self._validate_after:
            control.should_evaluate = True
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the stopwatch."""
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
            (folder / "README.md").unlink(missing_ok=True)  # peft's blank model card
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
