"""transformers' Trainer: the methods that our subclass overrides, and settings without a public interface.

Its documentation invites subclasses to override `training_step`, `compute_loss`, `prediction_step`, `evaluate` and
`log`, but guarantees neither their arguments nor when they are called; the rest is private. All but `evaluate` and
`log` are overridden here, in terms of the abstract methods of `AdaptedTrainer`.

A model that is divided over processes (`train.sharding`) is divided here and not by `TrainingArguments(fsdp=…)`, whose
checkpoints one process cannot read. Relied on for that: weights of a checkpoint are loaded before
`_prepare_for_training`, the optimizer is made in it, and `save_model` and `_save_optimizer_and_scheduler` write them.

In fp16 a scaler of torch skips optimizer steps whose gradients are not finite. Nothing tells reliably that it did:
accelerate's `optimizer_step_was_skipped` is never true with a fused optimizer, which skips on the GPU.
"""

import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.data_loader import BatchSamplerShard
from accelerate.state import AcceleratorState
from transformers import Trainer

from medqa_finetune.compat.fsdp import (
    divide,
    keep_states_whole,
    release_gathered,
    shapes_of,
    share_of,
    take_weights,
    twin_of,
    whole_weights,
)

THREADS_VARIABLE = "OMP_NUM_THREADS"
# Trainer's files of a checkpoint.
OPTIMIZER_NAME, SCHEDULER_NAME = "optimizer.pt", "scheduler.pt"


def forget_processes() -> None:
    """Let accelerate forget that several processes trained together: what comes next is done by one."""
    AcceleratorState._reset_state(reset_partial_state=True)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Keep the number of torch's threads, which accelerate sets for several processes on a CPU where nobody has."""
    is_set = THREADS_VARIABLE in os.environ
    os.environ.setdefault(THREADS_VARIABLE, str(torch.get_num_threads()))
    try:
        yield
    finally:
        if not is_set:
            del os.environ[THREADS_VARIABLE]


class SkippedSteps:
    """Counts the optimizer steps that a gradient scaler skips, on its device, so that no step waits for it.

    Relied on: `update` follows every optimizer step, and finds there what `step` found in the gradients.
    """

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        self._scaler = scaler
        self._update = scaler.update
        # All of them, and those since the last step that trained.
        self._counts = torch.zeros(2, dtype=torch.int64)
        scaler.update = self._counted_update  # type: ignore[method-assign]

    def start_at(self, total: int, in_a_row: int) -> None:
        """Continue from the counts of an earlier process."""
        self._counts = torch.tensor([total, in_a_row], device=self._counts.device)

    def read(self) -> tuple[int, int]:
        """Return the number of skipped steps, and how many of them came last in a row; waits for the device."""
        total, in_a_row = self._counts.tolist()
        return int(total), int(in_a_row)

    def _counted_update(self, *arguments: Any, **options: Any) -> None:
        found: list[torch.Tensor] = [
            each
            for state in self._scaler._per_optimizer_states.values()
            for each in state["found_inf_per_device"].values()
        ]
        if found:
            skipped = (torch.stack(found).sum() > 0).to(torch.int64)
            counts = self._counts.to(skipped.device, non_blocking=True)
            self._counts = torch.stack([counts[0] + skipped, (counts[1] + 1) * skipped])
        self._update(*arguments, **options)


class AdaptedTrainer(Trainer):
    """A Trainer whose loader yields optimizer steps, each in batches that fit in memory.

    Args:
        model: The model to train.
        sharded: Whether the processes that train together divide its weights, gradients and optimizer state. A twin of
            it is trained then, and the model itself has no weights until `take_weights_back`.
        options: As Trainer takes them.

    Attributes:
        skips: Counts the steps skipped in fp16; None in other precisions.
    """

    def __init__(self, *, model: Any, sharded: bool = False, **options: Any) -> None:
        super().__init__(model=twin_of(model) if sharded else model, **options)
        self._whole = model if sharded else None
        self._shapes: dict[str, torch.Size] = {}
        scaler: Any = self.accelerator.scaler
        self.skips = None if scaler is None else SkippedSteps(scaler)
        # `compute_loss` divides by the answer tokens of the whole step; Trainer must not divide again.
        self.model_accepts_loss_kwargs = True

    @abstractmethod
    def take_step(self, model: torch.nn.Module, item: dict[str, Any]) -> torch.Tensor:
        """Compute the gradients of one item of the training loader by `backward`, and return its loss."""

    @abstractmethod
    def loss_of(self, model: torch.nn.Module, batch: dict[str, Any], tokens: int) -> torch.Tensor:
        """Return the summed loss of a batch, divided by the answer tokens of its step, times the processes."""

    @abstractmethod
    def validate_on(self, model: torch.nn.Module, item: dict[str, Any]) -> torch.Tensor:
        """Add the loss of one item of the validation loader to that of `validated_loss`, and return it."""

    @abstractmethod
    def validated_loss(self) -> float:
        """Return the loss of all items since the last call, in nats per answer token."""

    def backward(self, model: torch.nn.Module, batch: dict[str, Any], tokens: int) -> torch.Tensor:
        """Compute the gradients of `loss_of` for a batch, and return the loss."""
        loss: torch.Tensor = super().training_step(model, batch, tokens)
        return loss

    def gradients_kept(self, model: torch.nn.Module) -> AbstractContextManager[None]:
        """Let the passes in the block add up gradients without exchanging them with other processes."""
        passes: AbstractContextManager[None] = self.accelerator.no_sync(model)
        return passes

    def _get_dataloader(self, *arguments: Any, **options: Any) -> Any:
        """Return a loader that yields all steps in every process: each takes its own share of a step.

        accelerate's would give each process whole steps of its own.
        """
        loader: Any = super()._get_dataloader(*arguments, **options)
        if isinstance(loader.batch_sampler, BatchSamplerShard):
            loader.batch_sampler.num_processes, loader.batch_sampler.process_index = 1, 0
            # Nor is the last step filled up with examples of the first.
            loader.batch_sampler.even_batches = False
        return loader

    def _prepare_for_training(self, *arguments: Any, **options: Any) -> Any:
        """Divide the model, once it has the weights of a checkpoint and before an optimizer knows them."""
        if self._whole is not None:
            self._shapes = shapes_of(self._whole)
            divide(self.model)
            prepare = self.accelerator.prepare_model
            # accelerate would have each process exchange all gradients; for an evaluation it sets the precision alone.
            self.accelerator.prepare_model = lambda model, **_: prepare(
                model, device_placement=False, evaluation_mode=True
            )
        prepared: Any = super()._prepare_for_training(*arguments, **options)  # type: ignore[no-untyped-call]
        return prepared

    def create_optimizer(self, *arguments: Any, **options: Any) -> Any:
        """Create the optimizer, whose state is written as one process writes it."""
        found: Any = super().create_optimizer(*arguments, **options)
        if self._whole is not None:
            keep_states_whole(self.optimizer, keep=self.args.should_save)
        return found

    def save_model(self, output_dir: str | None = None, *arguments: Any, **options: Any) -> None:
        """Write the weights as one process does; of divided ones, all processes gather them."""
        if self._whole is None:
            super().save_model(output_dir, *arguments, **options)
            return
        weights = whole_weights(self.model, keep=self.args.should_save)
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write the state of the optimizer; where it is divided, the other processes take part in gathering it."""
        if self._whole is not None and not self.args.should_save:
            cast(Any, self.optimizer).state_dict()
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the state of the optimizer; Trainer would first load all of a divided one onto each GPU."""
        if self._whole is None or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        folder, optimizer, scheduler = Path(checkpoint), cast(Any, self.optimizer), cast(Any, self.lr_scheduler)
        state = torch.load(folder / OPTIMIZER_NAME, map_location="cpu", weights_only=True, mmap=True)
        optimizer.load_state_dict(state)
        scheduler.load_state_dict(torch.load(folder / SCHEDULER_NAME, weights_only=True))

    def trained_weights(self) -> Iterator[torch.Tensor]:
        """Yield the trained weights; of divided ones, the shares of this process."""
        model = self.accelerator.unwrap_model(self.model)
        release_gathered(model)
        return (share_of(weight) for weight in model.parameters() if weight.requires_grad)

    def take_weights_back(self) -> None:
        """Give the model that was divided room for its weights again, whose values are arbitrary."""
        if self._shapes:
            take_weights(self._whole, self._shapes)

    def on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with its tensors moved to the model's device."""
        return dict(self._prepare_inputs(batch))

    def _prepare_input(self, data: Any) -> Any:
        """Move what a batch holds to the device; the host does not wait for copies from pinned memory.

        Trainer's own call waits, whatever `accelerator_config` says: only accelerate's loader asks for that.
        """
        if isinstance(data, torch.Tensor) and data.is_pinned():
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def autocast_dtype(self) -> torch.dtype | None:
        """Return the precision of the autocast that the model is trained under; None without one."""
        if self.args.bf16:
            return torch.bfloat16
        return torch.float16 if self.args.fp16 else None

    def unwrap(self) -> None:
        """Take autocast, and the conversion of outputs to fp32, off the model again.

        accelerate replaces the model's `forward` for training and leaves it so; it would go on in what comes after
        training, but not where that happens in another process.
        """
        model: Any = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        own = vars(model).get("forward")
        if own is not None and getattr(own, "__func__", None) is type(model).forward:
            del model.forward

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *arguments: Any, **options: Any
    ) -> torch.Tensor:
        """Call `take_step`, where Trainer would run one batch."""
        return self.take_step(model, inputs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Call `loss_of`; `num_items_in_batch` is the `tokens` of `backward`."""
        return self.loss_of(model, inputs, num_items_in_batch)

    def prediction_step(self, model: torch.nn.Module, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """Call `validate_on`; logits and labels, which Trainer expects after the loss, are None."""
        return self.validate_on(model, inputs), None, None

    def evaluation_loop(self, *arguments: Any, **options: Any) -> Any:
        """Validate on all items; the loss is a mean over tokens, where Trainer's is a mean over batches."""
        output: Any = super().evaluation_loop(*arguments, **options)
        output.metrics["eval_loss"] = self.validated_loss()
        return output
