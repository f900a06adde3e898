"""Resolves `auto` training settings: chosen once for all compared runs, tried on a GPU, recorded, kept at restarts."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import cast

import psutil
import torch

from medqa_finetune.compat.failures import is_out_of_memory
from medqa_finetune.compat.transformers import gradient_checkpointing
from medqa_finetune.config.schema import NOT_SHARDED, Config, MethodConfig, TrainConfig
from medqa_finetune.config.steps import Validations, total_steps, validation_steps, validations_of, with_validations
from medqa_finetune.memory import physical_bytes, resident_bytes
from medqa_finetune.model.auto_batch import candidates, fits, fitting_candidates, is_auto, most_demanding
from medqa_finetune.model.estimate import FP32, Machine, optimizer_bytes_per_weight
from medqa_finetune.model.load import LoadedModel
from medqa_finetune.precision import dtype_of
from medqa_finetune.ranks import training_processes
from medqa_finetune.record.compared import asks_alike, choices_of, choosing, compared_runs, trained_with
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Fitted, Record, Validated
from medqa_finetune.training.batches import Batch, concatenate, pad_right
from medqa_finetune.training.computing import computing, wants_fused
from medqa_finetune.training.fit import TrainingSets
from medqa_finetune.training.loss import AnswerLoss

log = logging.getLogger(__name__)

METHOD_KEYS = frozenset(field.name for field in dataclasses.fields(MethodConfig))


def settle(config: Config, loaded: LoadedModel, run: RunDir) -> Config:
    """Return the configuration with `auto` resolved: from the run's record, or chosen now and recorded.

    A restart with other values would draw other dropout masks, so its results would differ. Runs of a study that are
    compared train with the same values, since time and memory are compared too: the first to come here chooses what
    fits for all of them, those that have not started included.

    Raises:
        RunError: another run of the study has been choosing for ten minutes.
    """
    if not is_auto(config.train):
        return config
    record = run.read()
    found = None if record is None else trained_with(record)
    if found is None:
        found = choose(config, loaded) if record is None else _choose_once(config, loaded, run, record)
    return _with(config, found)


def settle_validations(config: Config, sets: TrainingSets, run: RunDir) -> Config:
    """Return the configuration with the validations resolved: from the run's record, or by the sizes, and recorded.

    A restart goes on with the same ones, whatever the rule is by then: among them the weights that are kept are chosen.
    """
    record, held_out = run.read(), len(sets.validation)
    begun = None if record is None else _begun_with(record, held_out)
    found = begun or validations_of(config.train, len(sets.train), held_out)
    train = with_validations(config.train, found)
    steps = total_steps(len(sets.train), train)
    seen = min(steps * train.batch_size, math.ceil(len(sets.train) * train.epochs))
    share = len(validation_steps(steps, train)) * found.samples / max(1, seen)
    if record is not None:
        run.update(validation=Validated(found.times, found.samples, held_out, round(share, 4)))
    log.info(
        "validation: %d x %s of %s examples, %.0f %% of what training processes",
        found.times, f"{found.samples:,}", f"{held_out:,}", 100 * share,
    )  # fmt: skip
    return _train_with(config, train)


def _begun_with(record: Record, held_out: int) -> Validations | None:
    """Return the validations that a training began with; None for one that begins now."""
    if record.validation is not None:
        return Validations(record.validation.times, record.validation.samples)
    # Earlier versions validated on all of the set, and had a number of validations.
    times = record.setting("train", "validations")
    is_earlier = "validation_samples" not in record.config.get("train", {})
    return Validations(times, held_out) if is_earlier and isinstance(times, int) else None


def _choose_once(config: Config, loaded: LoadedModel, run: RunDir, record: Record) -> Fitted:
    """Take the choice of the compared runs over, or choose for all of them; record it."""
    name = run.path.name
    with choosing(run):
        others = compared_runs(run.path.parent, record.config, but=name)
        choices = choices_of(others, config.train, loaded.device.name)
        if all(each.instead_of is not None for each in choices):
            found = choose(config, loaded, name, [other for other in others if asks_alike(other, config.train)])
            run.update(fitted=found)
            log.info("auto: %s, chosen for %s", _as_text(found), _listed(found))
            return found
    # Compared runs try at the same time, each on a card of its own.
    works = (each for each in choices if _works(_with(config, each), loaded))
    found = next(works, None) or choose(config, loaded, name)
    usual = choices[0]
    if found == usual:
        log.info("auto: %s, as in %s, which it is compared with", _as_text(found), usual.chosen_in)
    else:
        found = dataclasses.replace(found, instead_of=usual.chosen_in)
        log.warning(
            "auto: %s, since %s, as in %s, does not fit here; time and memory of the two do not compare",
            _as_text(found),
            _as_text(usual),
            usual.chosen_in,
        )
    run.update(fitted=found)
    return found


def _as_text(choice: Fitted) -> str:
    again = str(choice.gradient_checkpointing).lower()
    return f"train.micro_batch={choice.micro_batch} train.gradient_checkpointing={again}"


def _listed(choice: Fitted) -> str:
    needy = f", of which {choice.decided_by} needs most memory" if len(choice.among) > 1 else ""
    return ", ".join(choice.among) + needy


def _works(config: Config, loaded: LoadedModel) -> bool:
    """Return whether a training with given settings fits: by trying it on a GPU, by the estimate elsewhere.

    By the estimate also where several processes divide the model.
    """
    if loaded.device.type == "cuda":
        return runs(config, loaded) if _can_be_tried(config) else _fits_now(config, loaded)
    # Memory that is free only now decides nothing: compared runs would differ for what else the machine does.
    processes = training_processes()
    memory = physical_bytes() // processes
    machine = Machine("cpu", loaded.device.name, memory, loaded.device.precision, processes)
    return loaded.size is None or fits(config, loaded.size, machine)


def _with(config: Config, choice: Fitted) -> Config:
    train = dataclasses.replace(
        config.train, micro_batch=choice.micro_batch, gradient_checkpointing=choice.gradient_checkpointing
    )
    return dataclasses.replace(config, train=train)


def _train_with(config: Config, train: TrainConfig) -> Config:
    return dataclasses.replace(config, train=train)


def choose(config: Config, loaded: LoadedModel, name: str = "", others: Sequence[Record] = ()) -> Fitted:
    """Return the fastest settings estimated to fit in free memory for all compared runs; on a GPU, that run as well.

    Where several processes divide the model, they are not tried.

    Args:
        config: Settings of the run.
        loaded: Its model, with which settings are tried on a GPU.
        name: Its name.
        others: Runs that are compared with it and have the same choice.
    """
    device, size = loaded.device, loaded.size
    machine = _machine_now(loaded)
    configs = [config, *(dataclasses.replace(config, method=_method_of(other)) for other in others)]
    choices = fitting_candidates(configs, size, machine)
    is_tried = device.type == "cuda" and _can_be_tried(config)
    tried = (each for each in choices if not is_tried or runs(_train_with(config, each), loaded))
    chosen = next(tried, None) or list(candidates(config.train, device.type))[-1]
    names = [name, *(other.name for other in others)]
    decided_by = name if size is None else names[most_demanding(configs, chosen, size, machine)]
    # What fits for no setting of its own trains apart, or the others would be slowed down for nothing.
    is_apart = decided_by != name and size is not None and not fits(_train_with(config, chosen), size, machine)
    if is_apart and size is not None:
        chosen = fitting_candidates([config], size, machine)[0]
    values = (chosen.micro_batch, chosen.gradient_checkpointing, name)
    return Fitted(*values, name, [name], decided_by) if is_apart else Fitted(*values, decided_by, sorted(names))


def _can_be_tried(config: Config) -> bool:
    """Return whether one process can find out what fits: its trial has the whole model, which others may divide."""
    return config.train.sharding == NOT_SHARDED


def _fits_now(config: Config, loaded: LoadedModel) -> bool:
    return loaded.size is None or fits(config, loaded.size, _machine_now(loaded))


def _machine_now(loaded: LoadedModel) -> Machine:
    """Return the device of a loaded model, with the memory that is free on it."""
    device = loaded.device
    return Machine(device.type, device.name, usable_bytes(device.type), device.precision, training_processes())


def _method_of(record: Record) -> MethodConfig:
    """Return the method of a run, without settings that this version does not know."""
    return MethodConfig(**{key: value for key, value in record.config["method"].items() if key in METHOD_KEYS})


def usable_bytes(device: str) -> int:
    """Return the memory available to this process in bytes: free memory plus what it already holds.

    Without a GPU, the processes that train together divide it.
    """
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    return min(psutil.virtual_memory().available + resident_bytes(), physical_bytes()) // training_processes()


def runs(config: Config, loaded: LoadedModel) -> bool:
    """Return whether the largest training step fits in memory: forward and backward pass, and optimizer state."""
    model = loaded.model
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    name = config.method.optimizer if loaded.device.type == "cuda" else config.method.optimizer_without_cuda
    try:
        # Several processes exchange gradients through buffers of the same size.
        width = optimizer_bytes_per_weight(name) + (FP32 if training_processes() > 1 else 0)
        size = round(sum(weight.numel() for weight in trained) * width)
        state = torch.empty(size, dtype=torch.uint8, device=model.device)
        _pass(config, loaded)
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


def _pass(config: Config, loaded: LoadedModel) -> None:
    """Run forward and backward on `micro_batch` examples of `max_length` tokens, as training does."""
    model, train = loaded.model, config.train
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
            computing(model, config, half, fused=wants_fused(config, loaded.device)),
            torch.autocast(loaded.device.type, half) if half is not None else nullcontext(),
        ):
            AnswerLoss(model)(model, cast("Batch", moved)).backward()  # type: ignore[no-untyped-call]
    finally:
        model.train(was_training)
