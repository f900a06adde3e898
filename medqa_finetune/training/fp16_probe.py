"""A pass in fp16 before a run begins: how near it comes to the end of fp16's range, and where it must compute in fp32.

fp16 ends at 65,504. Without a GPU that has bf16 (T4, V100), a model whose activations are larger learns nothing: every
loss is NaN, or every gradient, and the scaler skips every step. So a few real examples go through the model first.
Where activations leave the range, the block of the layer is computed again in fp32 at once, so that one pass finds all
such blocks. A second pass with its backward pass shows whether loss and gradients are finite.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch

from medqa_finetune.compat.peft import bare, own_input_precision
from medqa_finetune.compat.transformers import gradient_checkpointing
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import Config
from medqa_finetune.data.token_sets import EncodedSet, Item
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.memory import GIB
from medqa_finetune.model.fp32_blocks import (
    KEY,
    STATES,
    added_bytes,
    blocks_of,
    chosen_blocks,
    compute_in_fp32,
    names_in_fp32,
)
from medqa_finetune.model.load import LoadedModel
from medqa_finetune.precision import dtype_of
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Fp16Probe
from medqa_finetune.training.batches import Batch, pad_right
from medqa_finetune.training.loss import AnswerLoss

log = logging.getLogger(__name__)

NONE = "none"
LARGEST = torch.finfo(torch.float16).max
# Other examples, and training itself, may double what was seen.
ENOUGH = LARGEST / 2
# Examples that are looked through for the longest ones.
SAMPLE = 64
# Scales of the loss: where torch's scaler begins, and smaller ones that it can come to.
SCALES = (2.0**16, 2.0**8, 1.0)


def settle_fp32_blocks(
    config: Config, loaded: LoadedModel, sample: Callable[[int], EncodedSet], run: RunDir, *, keep: bool
) -> None:
    """Let those blocks of the model compute in fp32 that `fp32_blocks` names, or that a pass in fp16 shows to need it.

    A restart, and a later evaluation, take those of the run's record, so that all answers are of one form.

    Args:
        config: Of the run.
        loaded: The model, before training or answering; modified in place.
        sample: Returns some encoded examples of the validation set.
        run: Folder of the run.
        keep: Whether the finding becomes part of the record: only where the run is being trained.

    Raises:
        ModelError: a name means no block, or nothing computes in half precision.
    """
    precision, asked = loaded.device.precision, config.fp32_blocks
    named = [] if asked in (AUTO, NONE) else chosen_blocks(loaded.model, asked)
    if precision == "fp32":
        if named:
            problem = "all of the model computes in fp32 here"
            raise ModelError(Fault("conflict", problem, key=KEY, got=list(asked), allowed=(AUTO, NONE)))
        return
    record = run.read()
    known = None if record is None or precision != "fp16" else record.fp16
    compute_in_fp32(loaded.model, named if known is None else known.fp32_blocks, dtype_of(precision))
    if precision != "fp16" or known is not None:
        return
    found = probe(config, loaded, sample(SAMPLE), mend=asked == AUTO)
    if keep:
        run.update(fp16=found)
    _tell(found, loaded)


def probe(config: Config, loaded: LoadedModel, examples: EncodedSet, *, mend: bool) -> Fp16Probe:
    """Run a few examples through the model in fp16; weights, gradients and random state stay as they are.

    Args:
        config: Of the run.
        loaded: The model, in place of which blocks may compute in fp32 afterwards.
        examples: The longest are taken, as many tokens as a training pass has.
        mend: Whether blocks that overflow compute in fp32 from then on.
    """
    model, half = loaded.model, dtype_of(loaded.device.precision)
    batch = _batch_of(examples, config, loaded)
    was_training = cast(Any, model).training
    devices = [model.device] if loaded.device.type == "cuda" else []
    with ExitStack() as stack:
        stack.callback(cast(Any, model).train, was_training)
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(own_input_precision(model, active=True))
        with torch.no_grad():
            passes = [_forward(model, batch, half, mend=mend)]
            # A sum of the residual stream that overflows is mended from the next pass on.
            while passes[-1].mended:
                passes.append(_forward(model, batch, half, mend=mend))
        most = max(passes, key=lambda each: each.largest)
        found = Fp16Probe(
            largest_activation=most.largest,
            largest_at=most.largest_at,
            share_of_range=most.largest / LARGEST,
            first_overflow=passes[0].first_overflow,
            fp32_blocks=names_in_fp32(model),
            finite_loss=math.isfinite(passes[-1].loss),
        )
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        return replace(found, **_backward(model, batch, half, trained)) if trained else found


def _batch_of(examples: EncodedSet, config: Config, loaded: LoadedModel) -> Batch:
    """Return the longest examples, as many tokens as a pass of training has, on the model's device."""
    train = config.train
    rows = 1 if train.micro_batch == AUTO else int(train.micro_batch)
    items: Sequence[Item] = sorted(examples, key=lambda item: -len(item["input_ids"]))
    longest = len(items[0]["input_ids"])
    chosen = items[: max(1, rows * train.max_length // longest)]
    batch = pad_right(chosen, int(loaded.tokenizer.pad_token_id or 0))
    moved = {name: part.to(loaded.model.device) for name, part in cast("dict[str, torch.Tensor]", batch).items()}
    return cast("Batch", moved)


def _autocast(model: Any, half: torch.dtype) -> torch.autocast:
    return torch.autocast(model.device.type, half)


def _forward(model: Any, batch: Batch, half: torch.dtype, *, mend: bool) -> "_Watch":
    """Run a batch forward without dropout, watching every module."""
    watch = _Watch(model, half, mend=mend)
    model.eval()
    with watch.watching(), _autocast(model, half):
        watch.loss = float(AnswerLoss(model)(model, batch))
    return watch


def _backward(model: Any, batch: Batch, half: torch.dtype, trained: list[torch.nn.Parameter]) -> dict[str, Any]:
    """Return the fields of the probe about gradients, tried at one scale of the loss after the other."""
    model.train()
    for scale in SCALES:
        try:
            with gradient_checkpointing(model):
                with _autocast(model, half):
                    loss = AnswerLoss(model)(model, batch) / len(batch["targets"])
                # Without autocast, as in training: what was in fp32 forward is so backward.
                (loss * scale).backward()  # type: ignore[no-untyped-call]
            finite = torch.stack([torch.isfinite(each.grad).all() for each in trained if each.grad is not None]).all()
            if bool(finite):
                return {"finite_gradients": True, "gradient_scale": scale}
        finally:
            for weight in trained:
                weight.grad = None
    return {"finite_gradients": False}


@dataclass(frozen=True)
class _Seen:
    """The largest absolute value of a module's input or output, and whether it is held in half precision."""

    name: str
    is_input: bool
    is_half: bool
    largest: float = math.nan


@dataclass
class _Watch:
    """Looks at the activations of all modules in a forward pass.

    Attributes:
        largest, largest_at: Largest finite absolute activation, and its module.
        first_overflow: First module whose activation in half precision is beyond `ENOUGH`.
        mended: Blocks that compute in fp32 since then.
        loss: Of the pass.
    """

    model: Any
    half: torch.dtype
    mend: bool
    largest: float = 0.0
    largest_at: str = ""
    first_overflow: str | None = None
    mended: list[str] = field(default_factory=list)
    loss: float = math.nan
    _notes: list[tuple[_Seen, torch.Tensor]] = field(default_factory=list)
    _latest: str | None = None
    _again: bool = False
    _stream_is_left: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs."""
        blocks = blocks_of(self.model)
        handles = []
        base = bare(self.model)
        for name, module in base.named_modules():
            if module in (base, base.get_output_embeddings()):
                continue  # logits behind the last block are none of its sums
            if name in blocks:
                handles.append(module.register_forward_pre_hook(self._at_begin))
            handles.append(module.register_forward_hook(self._noting(name)))
            handles.append(module.register_forward_pre_hook(self._noting_input(name), with_kwargs=True))
        for name, module in blocks.items():
            handles.append(module.register_forward_hook(self._at_end(name), with_kwargs=True))
        try:
            yield
            self._at_begin()
        finally:
            for handle in handles:
                handle.remove()

    def _noting(self, name: str) -> Callable[..., None]:
        return lambda module, inputs, output: self._note(name, output)

    def _noting_input(self, name: str) -> Callable[..., None]:
        return lambda module, inputs, kwargs: self._note(name, inputs or kwargs.get(STATES), is_input=True)

    def _note(self, name: str, value: Any, *, is_input: bool = False) -> None:
        tensor = value[0] if isinstance(value, tuple) and value else value
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.numel():
            seen = _Seen(name, is_input, tensor.dtype == self.half)
            self._notes.append((seen, tensor.detach().abs().amax().float()))

    def _at_begin(self, *_: Any) -> None:
        """Look at what lies between two blocks: the residual stream, to which the latest block was added."""
        place = _beyond(self._look())
        if place is not None and self._latest is not None and not self._stream_is_left:
            self._take(self._latest, place)
            # All layers above have the same stream; whether it is fp32 now, the next pass shows.
            self._stream_is_left = True

    def _at_end(self, name: str) -> Callable[..., Any]:
        def look(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
            self._latest = name
            seen = self._look()
            place = _beyond(seen)
            # A block whose input is not finite can do nothing about it.
            is_own = all(math.isfinite(each.largest) for each in seen if each.name == name and each.is_input)
            if place is None or self._again or not is_own:
                return None
            self._take(name, place)
            if not self.mend:
                return None
            self._again = True
            try:
                return module(*args, **kwargs)
            finally:
                self._again = False

        return look

    def _take(self, block: str, place: str) -> None:
        """Note where the range was left, and let the block compute in fp32."""
        self.first_overflow = self.first_overflow or place
        if self.mend and block not in names_in_fp32(self.model):
            compute_in_fp32(self.model, [block], self.half)
            self.mended.append(block)

    def _look(self) -> list["_Seen"]:
        """Return the activations since the last look, in order."""
        notes, self._notes = self._notes, []
        values = torch.stack([value for _, value in notes]).tolist() if notes else []
        seen = [replace(each, largest=value) for (each, _), value in zip(notes, values, strict=True)]
        for each in seen:
            if math.isfinite(each.largest) and each.largest > self.largest:
                self.largest, self.largest_at = each.largest, each.name
        return seen


def _beyond(seen: Sequence["_Seen"]) -> str | None:
    """Return the name of the first module that left the range in half precision; None for none."""
    # NaN is not below anything.
    return next((each.name for each in seen if each.is_half and not each.largest <= ENOUGH), None)


def _tell(found: Fp16Probe, loaded: LoadedModel) -> None:
    log.info(
        "fp16: the largest activation is %.0f, %.0f %% of its range, at %s",
        found.largest_activation, 100 * found.share_of_range, found.largest_at,
    )  # fmt: skip
    if found.fp32_blocks:
        log.warning(
            "%d of %d blocks compute in fp32, in training and answering (%.2f GiB more, and slower there): %s",
            len(found.fp32_blocks), len(blocks_of(loaded.model)), added_bytes(loaded.model) / GIB,
            ", ".join(found.fp32_blocks),
        )  # fmt: skip
    if found.first_overflow is not None and not found.fp32_blocks:
        log.warning(
            "fp16 overflows, or nearly so, first at %s; fp32_blocks=auto computes there in fp32", found.first_overflow
        )
    if not found.finite_loss:
        log.warning("fp16: the loss of a few examples is not finite")
    elif found.finite_gradients is False:
        log.warning("fp16: the gradients of a few examples are finite at no scale: steps will be skipped")
