"""Train: transformers' Trainer through its public hooks, metered, validated, the best weights kept."""

import contextlib
import math
import os
from dataclasses import dataclass
from typing import Any

from transformers import PrinterCallback, TrainingArguments
from transformers.training_args import OptimizerNames

from medqa_finetune.config.schema import Config, TrainConfig
from medqa_finetune.data.encode import EncodedSet
from medqa_finetune.model.attention import attention_per_pair
from medqa_finetune.model.load import Device, LoadedModel
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import TrainRecord
from medqa_finetune.training.batches import PairDataset, concatenate
from medqa_finetune.training.meters import Meter, Reading, peak_rss_bytes
from medqa_finetune.training.trainer import MeteredTrainer, Milestones


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
        callbacks=[Milestones(meter, config.train.warmup_steps_unmetered, validation_steps(steps, config.train))],
        meter=meter,
        run=run,
        tokenizer=loaded.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    with attention_per_pair(loaded.model):
        result = trainer.train()
    trainer.restore_best()
    with contextlib.suppress(OSError):
        run.checkpoints_path.rmdir()  # Trainer makes the folder even if nothing is to be saved in it
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
        eval_steps=steps,  # Milestones asks for the others
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
