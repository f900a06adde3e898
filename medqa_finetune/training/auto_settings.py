"""Resolves `auto` training settings: chosen once, tried on a GPU, recorded, and reused by every restart."""

import dataclasses
import logging
from contextlib import nullcontext
from typing import cast

import psutil
import torch

from medqa_finetune.compat.failures import is_out_of_memory
from medqa_finetune.compat.peft import own_input_precision
from medqa_finetune.compat.transformers import gradient_checkpointing
from medqa_finetune.config.schema import Config, TrainConfig
from medqa_finetune.memory import resident_bytes
from medqa_finetune.model.attention import attention_per_pair
from medqa_finetune.model.auto_batch import candidates, is_auto, resolve_auto
from medqa_finetune.model.estimate import Machine, optimizer_bytes_per_weight
from medqa_finetune.model.load import LoadedModel
from medqa_finetune.precision import dtype_of
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Fitted
from medqa_finetune.training.batches import Batch, concatenate, pad_right
from medqa_finetune.training.loss import AnswerLoss

log = logging.getLogger(__name__)


def settle(config: Config, loaded: LoadedModel, run: RunDir) -> Config:
    """Return the configuration with `auto` resolved: from the run's record, or chosen now and recorded.

    A restart with other values would draw other dropout masks, so its results would differ.
    """
    if not is_auto(config.train):
        return config
    record = run.read()
    fitted = record.fitted if record is not None else None
    if fitted is None:
        chosen = choose(config, loaded)
        fitted = Fitted(chosen.micro_batch, chosen.gradient_checkpointing)
        run.update(fitted=fitted)
        log.info("auto: %s", fitted)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **dataclasses.asdict(fitted)))


def choose(config: Config, loaded: LoadedModel) -> TrainConfig:
    """Return the fastest settings estimated to fit in free memory; on a GPU, the first of those that run."""
    device = loaded.device
    machine = Machine(device.type, device.name, usable_bytes(device.type), device.precision)
    estimated = resolve_auto(config, loaded.size, machine)
    if device.type == "cpu":
        return estimated
    choices = list(candidates(config.train))
    for choice in choices[choices.index(estimated) :]:
        if runs(dataclasses.replace(config, train=choice), loaded):
            return choice
    return choices[-1]


def usable_bytes(device: str) -> int:
    """Return the memory available to this process in bytes: free memory plus what it already holds."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    return psutil.virtual_memory().available + resident_bytes()


def runs(config: Config, loaded: LoadedModel) -> bool:
    """Return whether the largest training step fits in memory: forward and backward pass, and optimizer state."""
    model = loaded.model
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    name = config.method.optimizer if loaded.device.type == "cuda" else config.method.optimizer_without_cuda
    try:
        size = round(sum(weight.numel() for weight in trained) * optimizer_bytes_per_weight(name))
        state = torch.empty(size, dtype=torch.uint8, device=model.device)
        _pass(config.train, loaded)
        del state
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.info("%d examples of %d tokens do not fit", config.train.micro_batch, config.train.max_length)
        return False
    finally:
        for weight in trained:
            weight.grad = None
        if loaded.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def _pass(train: TrainConfig, loaded: LoadedModel) -> None:
    """Run forward and backward on `micro_batch` examples of `max_length` tokens."""
    model = loaded.model
    token = int(loaded.tokenizer.pad_token_id or 0)
    ids = [token] * train.max_length
    examples = [{"input_ids": ids, "labels": [-100, *ids[1:]]}] * train.micro_batch
    batch = concatenate(examples) if train.packing else pad_right(examples, token)
    moved = {name: part.to(model.device) if isinstance(part, torch.Tensor) else part for name, part in batch.items()}
    half = None if loaded.device.precision == "fp32" else dtype_of(loaded.device.precision)
    was_training = model.training
    model.train()
    try:
        with (
            gradient_checkpointing(model) if train.gradient_checkpointing else nullcontext(),
            own_input_precision(model, active=half is not None),
            attention_per_pair(model, train.max_length, half) if train.packing else nullcontext(),
            torch.autocast(loaded.device.type, half) if half is not None else nullcontext(),
        ):
            AnswerLoss(model)(model, cast("Batch", moved)).backward()  # type: ignore[no-untyped-call]
    finally:
        model.train(was_training)
