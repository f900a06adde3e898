"""Qwen2.5-3B in its true widths, with any number of layers, as fake tensors on "cuda"."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch.utils._python_dispatch import _disable_current_modes
from transformers import AutoModelForCausalLM, Qwen2Config

from medqa_finetune.compat.peft import bare
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.attention_kernels import expand_keys_where_needed
from medqa_finetune.precision import Precision, dtype_of

# huggingface.co/Qwen/Qwen2.5-3B-Instruct, config.json.
LAYERS, VOCABULARY = 36, 151936
WIDTHS: dict[str, Any] = {
    "hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16, "num_key_value_heads": 2,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "attention_dropout": 0.0,
    "use_sliding_window": False,
}  # fmt: skip
# Weights per scale of bitsandbytes' 4-bit types, and scales per scale of those.
BLOCK, NESTED_BLOCK = 64, 256


def config_of(layers: int = LAYERS, vocabulary: int = VOCABULARY, **widths: Any) -> Qwen2Config:
    """Return the configuration; `widths` replace those of Qwen2.5-3B."""
    return Qwen2Config(vocab_size=vocabulary, num_hidden_layers=layers, **(WIDTHS | widths))


def build(method: MethodConfig, precision: Precision, config: Qwen2Config) -> Any:
    """Return a model with a method applied, its weights fake on "cuda". Call inside a FakeTensorMode."""
    applied = model_method(method)
    with _disable_current_modes(), torch.device("meta"):
        auto: Any = AutoModelForCausalLM
        base = auto.from_config(config, dtype=dtype_of(applied.base_precision(precision)))
        if method.quantization == "nf4":
            quantize(base, dtype_of(precision))
        model: Any = applied.apply(base)
    to_gpu(model)
    expand_keys_where_needed(bare(model))
    return model


def quantize(base: Any, compute: torch.dtype) -> None:
    """Replace linear layers, but for the head, by bitsandbytes' NF4 ones with double quantization."""
    import bitsandbytes

    kind: Any = bitsandbytes.nn.modules.Linear4bit
    head = base.get_output_embeddings()
    for path, layer in list(base.named_modules()):
        if isinstance(layer, torch.nn.Linear) and layer is not head:
            made = kind(
                layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=compute,
                quant_type="nf4", compress_statistics=True,
            )  # fmt: skip
            if layer.bias is not None:
                made.bias = torch.nn.Parameter(layer.bias.detach(), requires_grad=False)
            parent, _, name = path.rpartition(".")
            setattr(base.get_submodule(parent), name, made)
    base.is_loaded_in_4bit = base.is_quantized = True
    base.hf_quantizer = SimpleNamespace(is_trainable=True)  # transformers' Trainer asks for it


def to_gpu(model: Any) -> None:
    """Replace every weight and buffer by a fake one on "cuda"; shared ones stay shared."""
    made: dict[int, torch.nn.Parameter] = {}
    for part in model.modules():
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                if id(weight) not in made:
                    made[id(weight)] = _fake_parameter(part, weight)
                part._parameters[name] = made[id(weight)]
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")


def _fake_parameter(part: Any, weight: torch.nn.Parameter) -> torch.nn.Parameter:
    if type(weight).__name__ == "Params4bit":
        return _fake_four_bits(part, weight)
    fake = torch.empty(weight.shape, dtype=weight.dtype, device="cuda")
    return torch.nn.Parameter(fake, requires_grad=weight.requires_grad)


def _fake_four_bits(layer: Any, weight: Any) -> torch.nn.Parameter:
    from bitsandbytes import functional

    state_of: Any = functional.QuantState

    shape = torch.Size((layer.out_features, layer.in_features))
    scales = -(-shape.numel() // BLOCK)

    def table() -> torch.Tensor:
        return torch.empty(256, device="cuda")

    nested = state_of(
        absmax=torch.empty(-(-scales // NESTED_BLOCK), device="cuda"), blocksize=NESTED_BLOCK, code=table(),
        dtype=torch.float32,
    )  # fmt: skip
    state = state_of(
        absmax=torch.empty(scales, dtype=torch.uint8, device="cuda"), shape=shape, dtype=layer.compute_dtype,
        blocksize=BLOCK, code=torch.empty(16, device="cuda"), quant_type="nf4",
        offset=torch.empty((), device="cuda"), state2=nested,
    )  # fmt: skip
    data = torch.empty((-(-shape.numel() // 2), 1), dtype=torch.uint8, device="cuda")
    # Of the plain class, since a fake tensor becomes no other one; the layer asks it for its scales alone.
    made: Any = torch.nn.Parameter(data, requires_grad=False)
    made.quant_state = layer.quant_state = state
    return cast(torch.nn.Parameter, made)


@contextmanager
def card(capability: tuple[int, int]) -> Iterator[None]:
    """Answer for the card that is not there: its compute capability, bf16 from Ampere on, and pinned memory."""
    from torch.cuda.amp import common

    def pin(tensor: torch.Tensor, *_: object) -> torch.Tensor:
        made: Any = tensor.clone()
        made.is_pinned_here = True
        return cast(torch.Tensor, made)

    replaced = (
        (torch.Tensor, "pin_memory", pin),
        (torch.Tensor, "is_pinned", lambda tensor, *_: hasattr(tensor, "is_pinned_here")),
        (torch.cuda, "get_device_capability", lambda device=None: capability),
        (torch.cuda, "is_bf16_supported", lambda including_emulation=True: capability >= (8, 0)),
        # Autocast would turn itself off.
        (common, "amp_definitely_not_available", lambda: False),
    )
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
