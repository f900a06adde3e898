"""Computes single blocks of a model in fp32, where half precision would overflow: the attention or MLP of a layer.

fp16 ends at 65,504. Attention scores and activations of some models are larger in a few layers, and everything behind
an overflow is NaN. A block is a direct part of a numbered layer that has matrices, such as `layers.3.mlp`. One that
computes in fp32 takes its input so, holds its weights so, and knows no autocast; its attention scores are fp32 as well.
What it adds to the residual stream is fp32, and the stream from there on; other blocks, and the head, take half of it.
"""

import weakref
from collections.abc import Collection, Iterable
from typing import Any

import torch

from medqa_finetune.compat.bitsandbytes import compute_in, is_eight_bit_layer
from medqa_finetune.compat.peft import bare
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.methods.shared.targets import fits

HALVES = (torch.float16, torch.bfloat16)
KEY = "fp32_blocks"
# Names of the argument by which models call their blocks, where it is none by position.
STATES, MASK = "hidden_states", "attention_mask"


def blocks_of(model: Any) -> dict[str, torch.nn.Module]:
    """Return the blocks of a model, with or without adapters, by name, in the model's order."""
    found = {}
    for name, module in bare(model).named_modules():
        numbered = [place for place, part in enumerate(name.split(".")) if part.isdigit()]
        is_part = bool(numbered) and numbered[0] == name.count(".") - 1
        if is_part and any(weight.ndim > 1 for weight in module.parameters()):
            found[name] = module
    return found


def chosen_blocks(model: Any, asked: Collection[str]) -> list[str]:
    """Return the names of the blocks that names mean: whole, or their ends.

    Raises:
        ModelError: a name means none.
    """
    known = blocks_of(model)
    for each in asked:
        if not any(fits(name, each) for name in known):
            problem = f"no block of this model is called {each}"
            raise ModelError(
                Fault("no-such-module", problem, key=KEY, got=list(asked), allowed=(*_kinds(known), "auto", "none"))
            )
    return [name for name in known if any(fits(name, each) for each in asked)]


def _kinds(names: Iterable[str]) -> list[str]:
    """Return the ends of blocks' names, which those of all layers share."""
    return sorted({name.rpartition(".")[2] for name in names})


def way_out_of_fp16(model: Any) -> str:
    """Return settings with which more of a model, or all of it, computes in fp32."""
    if any(map(is_eight_bit_layer, model.modules())):
        return "method=qlora, since 8-bit layers always compute in fp16"
    return f"precision=fp32, or {KEY}=[{','.join(_kinds(blocks_of(model)))}], which computes all layers in fp32"


class _Block:
    """A block with its hooks.

    Attributes:
        is_full: Whether it computes in fp32; otherwise it takes its input in half precision.
    """

    def __init__(self, module: torch.nn.Module, half: torch.dtype) -> None:
        self.is_full = False
        self._half = half
        self._open: list[torch.autocast] = []
        module.register_forward_pre_hook(self._before, with_kwargs=True)
        # After an error as well, by which gradient checkpointing ends what it computes again.
        module.register_forward_hook(self._after, always_call=True)

    def _before(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.is_full:
            cast = (_in(self._half, args[:1], torch.float32), _in(self._half, kwargs.get(STATES), torch.float32))
            return (*cast[0], *args[1:]), {**kwargs, **({STATES: cast[1]} if STATES in kwargs else {})}
        device = next(weight.device for weight in module.parameters())
        self._open.append(torch.autocast(device.type, enabled=False))
        self._open[-1].__enter__()  # type: ignore[no-untyped-call]
        wider = {
            name: _wide_mask(value) if name == MASK else _in(torch.float32, value, *HALVES)
            for name, value in kwargs.items()
        }
        return _in(torch.float32, args, *HALVES), wider

    def _after(self, *_: Any) -> None:
        if self._open:
            self._open.pop().__exit__(None, None, None)


def _in(dtype: torch.dtype, value: Any, *sources: torch.dtype) -> Any:
    """Return a value with its tensors of some types, in tuples too, converted to another one."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.dtype in sources else value
    if isinstance(value, tuple):
        return tuple(_in(dtype, each, *sources) for each in value)
    return value


def _wide_mask(mask: Any) -> Any:
    """Return a mask that is added to scores in fp32: what hides a token must be below all of them."""
    if not isinstance(mask, torch.Tensor) or mask.dtype not in HALVES:
        return mask
    return mask.float().masked_fill(mask == torch.finfo(mask.dtype).min, torch.finfo(torch.float32).min)


def _layer_norms(base: Any) -> list[torch.nn.Module]:
    """Return torch's norms of the residual stream, which take no fp32 where their own weights are in half precision."""
    inside = {part for block in blocks_of(base).values() for part in block.modules()}
    return [part for part in base.modules() if isinstance(part, torch.nn.LayerNorm) and part not in inside]


# Of models, without adapters around them.
_forms: "weakref.WeakKeyDictionary[torch.nn.Module, dict[str, _Block]]" = weakref.WeakKeyDictionary()


def names_in_fp32(model: Any) -> list[str]:
    """Return the names of the blocks that compute in fp32."""
    return [name for name, block in _forms.get(bare(model), {}).items() if block.is_full]


def compute_in_fp32(model: Any, names: Collection[str], half: torch.dtype) -> None:
    """Let blocks of a model compute in fp32, in place, and keep those that do already.

    Args:
        model: With or without adapters.
        names: From `blocks_of`; nothing happens for none.
        half: Precision of all others.

    Raises:
        ModelError: a block has 8-bit layers, which always compute in fp16.
    """
    base, blocks = bare(model), blocks_of(model)
    if not names:
        return
    for name in names:
        if any(map(is_eight_bit_layer, blocks[name].modules())):
            raise ModelError(
                Fault(
                    "not-supported",
                    f"{name} overflows fp16 or is to compute in fp32, and 8-bit layers always compute in fp16",
                    key="method.quantization",
                    got="int8",
                    allowed=("none", "nf4", "fp4"),
                )
            )
    if base not in _forms:
        _forms[base] = {name: _Block(module, half) for name, module in blocks.items()}
        _Block(base.get_output_embeddings(), half)
        for norm in _layer_norms(base):
            _Block(norm, half).is_full = True
    for name in names:
        _forms[base][name].is_full = True
    hold_in_fp32(model)


def hold_in_fp32(model: Any) -> None:
    """Convert the weights of the blocks that compute in fp32; 4-bit ones stay, and are multiplied in fp32."""
    blocks, names = blocks_of(model), names_in_fp32(model)
    for module in (*(blocks[name] for name in names), *(_layer_norms(bare(model)) if names else ())):
        for weight in (*module.parameters(), *module.buffers()):
            if weight.dtype in HALVES:
                weight.data = weight.data.float()
        compute_in(torch.float32, module)


def added_bytes(model: Any) -> int:
    """Return the bytes that frozen weights take more because their blocks compute in fp32."""
    blocks, names = blocks_of(model), names_in_fp32(model)
    weights = [weight for name in names for weight in blocks[name].parameters() if not weight.requires_grad]
    return sum(2 * weight.numel() for weight in weights if weight.dtype == torch.float32)
