"""A step of training and a step of answering, recorded; runs in a process to which CUDA was lent (`walk.py`)."""

import gc
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from medqa_finetune.compat.peft import own_input_precision
from medqa_finetune.compat.transformers import gradient_checkpointing
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.evaluation import decode
from medqa_finetune.evaluation.decode import Ending
from medqa_finetune.evaluation.fixed_shapes import WINDOW, FixedDecoder
from medqa_finetune.model.answering import answering_form
from medqa_finetune.model.attention import attention_per_pair
from medqa_finetune.model.fp32_blocks import compute_in_fp32
from medqa_finetune.model.load import Device
from medqa_finetune.precision import Precision, dtype_of
from medqa_finetune.training.batches import Batch, concatenate, pad_right
from medqa_finetune.training.loss import AnswerLoss
from scripts.fake_cuda.attention import attention_recorded
from scripts.fake_cuda.models import LAYERS, VOCABULARY, build, card, config_of
from scripts.fake_cuda.record import Recorder, Trace

TOKEN = 5
# torch's GradScaler begins with this factor.
FP16_SCALE = 65536


@dataclass(frozen=True)
class Setting:
    """What is walked through.

    Attributes:
        method: As in a configuration.
        precision: Of the run.
        capability: Compute capability of the card.
        layers, vocabulary, widths: Of the model; `widths` are keys of its configuration.
        lengths: Tokens of the examples of a pack; or of the prompts that are answered.
        packing, checkpointing: As in a configuration.
        fp32_blocks: Blocks of the model that compute in fp32.
    """

    method: MethodConfig
    precision: Precision = "bf16"
    capability: tuple[int, int] = (9, 0)
    layers: int = LAYERS
    vocabulary: int = VOCABULARY
    lengths: tuple[int, ...] = (1024,) * 4
    packing: bool = True
    checkpointing: bool = True
    widths: dict[str, Any] = field(default_factory=dict)
    fp32_blocks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A recorded step.

    Attributes:
        trace: Of the step itself; of training the second one, since the first one has trials of its own.
        first: Of the first training step, or of reading the prompts.
        weights: Bytes of the model.
        without_gradient: Trained weights that got none.
        logging: Of a whole training, a step after which the curve has a point.
        outside_passes: Of a whole training, launches and bytes outside the forward and backward passes.
    """

    trace: Trace
    first: Trace
    weights: int
    without_gradient: tuple[str, ...] = ()
    logging: Trace = field(default_factory=Trace)
    outside_passes: tuple[int, int] = (0, 0)


def training_step(setting: Setting) -> Step:
    """Return one forward and backward pass over a pack, with the optimizer's step."""
    with ExitStack() as stack:
        recorder, model = begin(setting, stack)
        model.train()
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        loss_of, weights = AnswerLoss(model), recorder.allocated
        half = None if setting.precision == "fp32" else dtype_of(setting.precision)
        stack.enter_context(own_input_precision(model, active=half is not None))
        if setting.checkpointing:
            stack.enter_context(gradient_checkpointing(model))
        if setting.packing:
            stack.enter_context(attention_per_pair(model, autocast=half))
        traces, lacking = [], ()
        for _ in range(2):
            gc.collect()
            batch = _batch(setting)
            recorder.restart()
            with _autocast(setting):
                loss = loss_of(model, batch) / 1000
            scaled: Any = loss * FP16_SCALE if setting.precision == "fp16" else loss
            scaled.backward()
            traces.append(recorder.trace)
            lacking = tuple(name for name, weight in trained.items() if weight.grad is None)
            del loss, scaled
            for weight in trained.values():
                weight.grad = None
    return Step(traces[1], traces[0], weights, lacking)


def decoding_step(setting: Setting) -> Step:
    """Return one more token for all prompts: what three tokens need beyond what two need."""
    traces = []
    with ExitStack() as stack, torch.no_grad():
        recorder, model = begin(setting, stack)
        model = answering_form(model, Device("cuda", "", setting.precision))
        weights = recorder.allocated
        prompts = [[TOKEN] * length for length in setting.lengths]
        # inference_mode knows no fake tensors.
        decode_greedily = cast(Any, decode.decode_greedily).__wrapped__
        for tokens in (1, 2, 3):
            gc.collect()
            recorder.restart()
            decode_greedily(model, prompts, Ending((1,), 0, tokens))
            traces.append(recorder.trace)
    return Step(traces[2].minus(traces[1]), traces[0], weights)


def replayed_step(setting: Setting) -> Step:
    """Return one more token for all prompts in fixed shapes: what a CUDA graph replays."""
    with ExitStack() as stack, torch.no_grad():
        recorder, model = begin(setting, stack)
        model = answering_form(model, Device("cuda", "", setting.precision))
        weights, prompts = recorder.allocated, [[TOKEN] * length for length in setting.lengths]
        decoder = FixedDecoder(model)
        # inference_mode knows no fake tensors.
        rows = cast(Any, FixedDecoder.begin).__wrapped__(decoder, prompts, Ending((1,), 0, 16))
        first = recorder.trace
        gc.collect()
        recorder.restart()
        decoder.advance(rows, WINDOW)
        return Step(recorder.trace, first, weights)


def begin(setting: Setting, stack: ExitStack) -> tuple[Recorder, Any]:
    """Enter everything under which a model is walked through, and return what records, and the model."""
    recorder = Recorder()
    stack.enter_context(card(setting.capability))
    stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
    stack.enter_context(recorder)
    stack.enter_context(attention_recorded(recorder, setting.capability))
    config = config_of(setting.layers, setting.vocabulary, **setting.widths)
    model = build(setting.method, setting.precision, config)
    compute_in_fp32(model, setting.fp32_blocks, dtype_of(setting.precision))
    return recorder, model


def _batch(setting: Setting) -> Batch:
    items: list[Any] = [
        {"input_ids": [TOKEN] * length, "labels": [-100] + [TOKEN] * (length - 1)} for length in setting.lengths
    ]
    batch = concatenate(items) if setting.packing else pad_right(items, 0)
    moved = {
        name: part.pin_memory().to("cuda", non_blocking=True) if isinstance(part, torch.Tensor) else part
        for name, part in batch.items()
    }
    return cast(Batch, moved)


def _autocast(setting: Setting) -> Any:
    return nullcontext() if setting.precision == "fp32" else torch.autocast("cuda", dtype_of(setting.precision))
