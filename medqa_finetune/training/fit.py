"""Trains a model with transformers' Trainer through its public hooks, and restores the best weights at the end.

Of several processes that train together, rank 0 calls `fit`, and every other one `fit_along`.
"""

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from medqa_finetune.compat.peft import bare, has_adapter
from medqa_finetune.compat.trainer import threads_kept
from medqa_finetune.compat.transformers import checkpointing_options, optimizer_name, use_one_gpu
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import NOT_SHARDED, Config, TrainConfig
from medqa_finetune.config.steps import total_steps, validation_steps, validations_of, with_validations
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.errors import Fault, ModelError, RunError
from medqa_finetune.log import is_terminal
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.fp32_blocks import way_out_of_fp16
from medqa_finetune.model.load import Device, LoadedModel
from medqa_finetune.progress import begin
from medqa_finetune.record.files import replace_folder
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import TrainRecord
from medqa_finetune.stopping import StopRequest
from medqa_finetune.tracking.trackers import Trackers
from medqa_finetune.training.batches import Collator
from medqa_finetune.training.change import read_sample, relative_change, sample_of
from medqa_finetune.training.checkpoints import Checkpoints
from medqa_finetune.training.computing import computing, wants_fused
from medqa_finetune.training.group import Group
from medqa_finetune.training.meters import Meter, costs
from medqa_finetune.training.tracker_callbacks import guarded
from medqa_finetune.training.trainer import MeteredTrainer, Milestones, Plan, Progress

log = logging.getLogger(__name__)

PROGRESS_TYPE = TypeAdapter(Progress)


@dataclass(frozen=True)
class Keeping:
    """What accompanies a training.

    Attributes:
        checkpoints: Where they go.
        stop: The request to stop.
        trackers: None for none.
        group: The processes that train together.
    """

    checkpoints: Checkpoints
    stop: StopRequest
    trackers: Trackers | None = None
    group: Group = field(default_factory=Group)


@dataclass(frozen=True)
class TrainingSets:
    """The encoded training and validation sets."""

    train: EncodedSet
    validation: EncodedSet


@dataclass(frozen=True)
class Beginning:
    """Where a training begins or goes on, as rank 0 finds it.

    Attributes:
        config: The settings, with everything resolved.
        resumed: Step of the checkpoint to resume from; None for a new training.
        progress: The progress there.
    """

    config: Config
    resumed: int | None
    progress: Progress


def fit(
    loaded: LoadedModel,
    sets: TrainingSets,
    config: Config,
    run: RunDir,
    keeping: Keeping,
) -> TrainRecord:
    """Train the model in place, resuming from the newest undamaged checkpoint if there is one.

    Afterwards the model has the weights of the lowest validation loss; they are saved in `run.adapter_path`, and the
    group has parted.

    Raises:
        Interrupted: a signal asked to stop; a checkpoint has been written.
        RankLostError: another process of the training failed or is gone.
        RunError: the training or validation loss became NaN or infinite, steps without finite gradients did not end, or
            no weight was changed.
    """
    checkpoints, method, group = keeping.checkpoints, model_method(config.method), keeping.group
    processes, devices = group.size, group.devices
    found = validations_of(config.train, len(sets.train), len(sets.validation))
    config = replace(config, train=with_validations(config.train, found))
    resumed, progress = _resumption(run, checkpoints)
    _prepare_folder(run, checkpoints, resumed)
    progress = _with_fusion(progress, config, loaded.device, resumed)
    if resumed is not None and progress.processes != processes:
        log.info("resumes with %d processes what %d have trained so far", processes, progress.processes)
    with group.noticing_losses():
        trainer = _train_together(loaded, sets, run, keeping, group.share(Beginning(config, resumed, progress)))
        group.leave()
    begin("saving")
    checkpoints.sweep()
    if not trainer.best_step:
        raise _nothing_trained(trainer)
    trainer.take_weights_back()
    method.restore(loaded.model, checkpoints.path(trainer.best_step))
    change = None if trainer.start is None else relative_change(trainer.start, sample_of(loaded.model))
    if change == 0:
        raise _nothing_trained(trainer)
    _write_adapter(loaded, method, run)
    record = _train_record(trainer, loaded, sets.train, config, processes)
    return replace(record, weight_change=change, processes=processes, devices=devices)


def fit_along(loaded: LoadedModel, sets: TrainingSets, run: RunDir, keeping: Keeping) -> None:
    """Train with rank 0, in another process; nothing is written but its random state in checkpoints.

    Raises:
        Interrupted: a signal asked to stop; rank 0 has written a checkpoint.
        RankLostError: another process of the training failed or is gone.
    """
    with keeping.group.noticing_losses():
        # Beginnings are rank 0's alone; nothing else is shared before.
        begun: Any = keeping.group.share(None)
        _train_together(loaded, sets, run, keeping, begun)
        keeping.group.leave()


def _train_together(
    loaded: LoadedModel, sets: TrainingSets, run: RunDir, keeping: Keeping, begun: Beginning
) -> MeteredTrainer:
    """Train, and return the trainer at the end of the last step."""
    config, train, resumed, group = begun.config, begun.config.train, begun.resumed, keeping.group
    checkpoints, method = keeping.checkpoints, model_method(config.method)
    steps = total_steps(len(sets.train), train)
    method.begin(loaded.model, config.seed, None if resumed is None else checkpoints.path(resumed))
    start = sample_of(loaded.model) if resumed is None else read_sample(checkpoints.path(resumed))
    meter = Meter(loaded.device.type, begun.progress.meter, group)
    pad = int(loaded.tokenizer.pad_token_id)
    collator = Collator(train.micro_batch, train.max_length, train.packing, pad, group.rank, group.size)
    with threads_kept():
        arguments = training_arguments(config, checkpoints, steps, loaded.device)
    # Of a mixture of experts, a pass may leave some without a token.
    arguments.ddp_find_unused_parameters = loaded.size is not None and bool(loaded.size.experts)
    if group.is_first:
        _warn_of_warmup(train, steps)
    samples = validations_of(train, len(sets.train), len(sets.validation)).samples
    trainer = MeteredTrainer(
        model=loaded.model,
        sharded=train.sharding != NOT_SHARDED,
        args=arguments,
        optimizers=(method.optimizer(loaded.model, arguments), None),
        train_dataset=sets.train,
        eval_dataset=sets.validation.prefix(samples),
        data_collator=collator,
        meter=meter,
        run=run,
        checkpoints=checkpoints,
        progress=begun.progress,
        group=group,
        start=start,
    )
    trainer.remove_callback(PrinterCallback)
    begin("training", steps, at=resumed)
    if group.size > 1:
        # Each process draws dropout of its own; those of a checkpoint go on with its states.
        torch.manual_seed(config.seed + group.rank)
    # Trainer would take one more step if resumed after the last.
    if resumed != steps:
        callbacks = guarded(keeping.trackers, resumed)
        _train(trainer, config, Plan(validation_steps(steps, train), train, keeping.stop, group), resumed, callbacks)
    return trainer


def _nothing_trained(trainer: MeteredTrainer) -> RunError:
    """Return the error for kept weights that are those before training, which no result must hide."""
    skipped, steps = trainer.skipped_steps, trainer.args.max_steps
    of_them = f": the gradients of {skipped} of {steps} steps were not finite in fp16" if skipped else ""
    hint = f"Give {way_out_of_fp16(trainer.model)}." if skipped else "Give a higher train.learning_rate."
    problem = f"the weights are the same as before training{of_them}"
    return RunError(Fault("nothing-trained", problem, key="weights", hint=hint))


def _train(
    trainer: MeteredTrainer, config: Config, plan: Plan, resumed: int | None, callbacks: Sequence[TrainerCallback]
) -> None:
    """Run Trainer's loop with callbacks, kernels and deferred signals."""
    half = trainer.autocast_dtype()
    with (
        computing(trainer.model, config, half, fused=trainer.fused_adapters) as fused,
        plan.stop.deferred(),
        trainer.group.noticing_losses(),
    ):
        if trainer.group.is_first:
            _tell_of_fusion(trainer, config, fused)
        for callback in (*callbacks, Milestones(plan, trainer.meter, trainer.publish)):
            trainer.add_callback(callback)
        checkpoint = None if resumed is None else str(trainer.checkpoints.path(resumed))
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        finally:
            # What comes after training computes as it would in another process.
            trainer.unwrap()


def _resumption(run: RunDir, checkpoints: Checkpoints) -> tuple[int | None, Progress]:
    """Return the step to resume from (None for a new training) and the progress there.

    A checkpoint is not used if points of the training curve before it are missing.
    """
    step = checkpoints.newest()
    if step is None:
        return None, Progress()
    progress = PROGRESS_TYPE.validate_python(checkpoints.read_progress(step))
    points = sum(row["step"] <= step for row in run.read_metrics())
    if points >= progress.points:
        return step, progress
    missing = progress.points - points
    log.warning("%s lacks %d points before step %d; training starts anew", run.metrics_path, missing, step)
    return None, Progress()


def _tell_of_fusion(trainer: MeteredTrainer, config: Config, fused: int) -> None:
    """Say how many adapters are fused.

    Raises:
        ModelError: none, although the settings ask for it.
    """
    if not trainer.fused_adapters:
        return
    if not fused and config.train.fused_adapters is True:
        problem = "none of this model's adapters is a plain one on a linear layer"
        raise ModelError(Fault("conflict", problem, key="train.fused_adapters", got=True, allowed=("false", AUTO)))
    adapters = sum(has_adapter(part) for part in cast(Any, trainer.model).modules())
    log.info("%d of %d adapters are fused (train.fused_adapters)", fused, adapters)


def _with_fusion(progress: Progress, config: Config, device: Device, resumed: int | None) -> Progress:
    """Return the progress with how adapters compute: as the checkpoint began, else as the settings say."""
    wanted = wants_fused(config, device)
    if resumed is None:
        return replace(progress, fused_adapters=wanted)
    if progress.fused_adapters != wanted:
        log.warning(
            "this training began with adapters %s, and goes on so",
            "fused" if progress.fused_adapters else "computed by peft, not fused",
        )
    return progress


def _prepare_folder(run: RunDir, checkpoints: Checkpoints, resumed: int | None) -> None:
    """Remove from the run folder what belongs to steps after the resumed one; record the resumption."""
    if resumed is None:
        checkpoints.clear()
        run.metrics_path.unlink(missing_ok=True)
        shutil.rmtree(run.tensorboard_path, ignore_errors=True)
        return
    checkpoints.sweep()
    run.forget_metrics_after(resumed)
    log.info("resuming from %s", checkpoints.path(resumed))
    record = run.read()
    if record is not None:
        run.update(resumed_from=[*record.resumed_from, resumed])


def _write_adapter(loaded: LoadedModel, method: ModelMethod, run: RunDir) -> None:
    def fill(folder: Path) -> None:
        method.save(loaded.model, folder)
        bare(loaded.model).generation_config.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's blank model card
        loaded.tokenizer.save_pretrained(folder)

    replace_folder(run.adapter_path, fill)


def warmup_steps(steps: int, train: TrainConfig) -> int:
    """Return the steps in which the learning rate rises, the last of which has the peak rate."""
    return math.ceil(train.warmup_ratio * steps)


def _warn_of_warmup(train: TrainConfig, steps: int) -> None:
    rising = warmup_steps(steps, train)
    if train.scheduler == "constant":
        if rising:
            log.info(
                "train.scheduler=constant has no warm-up: train.warmup_ratio=%g changes nothing", train.warmup_ratio
            )
    elif rising > 1 and 2 * rising > steps:
        log.warning("the learning rate still rises in %d of %d steps (train.warmup_ratio)", rising, steps)


def training_arguments(config: Config, checkpoints: Checkpoints, steps: int, device: Device) -> TrainingArguments:
    """Convert the configuration to transformers' TrainingArguments."""
    train = config.train
    cuda = device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(checkpoints.trainer_folder),
        # An item of Trainer's loader is a whole optimizer step; the trainer takes it in batches that fit in memory.
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        num_train_epochs=train.epochs,
        max_steps=steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.scheduler,
        warmup_steps=warmup_steps(steps, train),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_gradient_norm,
        optim=config.method.optimizer if cuda else config.method.optimizer_without_cuda,
        **checkpointing_options(train.gradient_checkpointing),
        logging_steps=train.logging_steps,
        logging_nan_inf_filter=False,  # the default hides NaN losses
        eval_strategy="steps",
        eval_steps=steps,  # Milestones requests the others
        prediction_loss_only=True,
        save_strategy="no",  # Milestones requests checkpoints, Checkpoints keeps them
        report_to="none",  # trackers are callbacks, each behind a guard
        run_name=config.run_name,
        disable_tqdm=not is_terminal(),
        seed=config.seed,
        data_seed=config.seed,
        use_cpu=not cuda,
        remove_unused_columns=False,
        label_names=["labels"],
        # The host goes on while a batch is copied, which only pinned memory allows.
        dataloader_pin_memory=cuda,
        accelerator_config={"non_blocking": cuda},
        ddp_broadcast_buffers=False,  # they are the model's own, equal everywhere
        bf16=cuda and device.precision == "bf16",
        fp16=device.precision == "fp16",
    )
    use_one_gpu(arguments)
    return arguments


def _train_record(
    trainer: MeteredTrainer, loaded: LoadedModel, examples: EncodedSet, config: Config, processes: int
) -> TrainRecord:
    rows = trainer.run.read_metrics()
    record = trainer.run.read()
    measured = costs(trainer.meter, loaded, config.method, processes)
    return TrainRecord(
        **measured,
        steps=rows[-1]["step"],
        epochs=round(float(rows[-1]["epoch"]), 4),
        optimizer=optimizer_name(trainer.args),
        truncated=examples.cut,
        truncated_rate=examples.cut / len(examples),
        batch_size=config.train.batch_size,
        batch_tokens=measured["tokens"] / rows[-1]["step"],
        micro_batch=config.train.micro_batch,
        gradient_checkpointing=config.train.gradient_checkpointing,
        fused_adapters=trainer.fused_adapters,
        sharding=config.train.sharding,
        skipped_steps=trainer.skipped_steps,
        final_train_loss=[row["loss"] for row in rows if "loss" in row][-1],
        best_validation_loss=trainer.best_loss,
        best_step=trainer.best_step,
        resumed_from=record.resumed_from if record is not None else [],
    )
