"""bitsandbytes: 4-bit weights, packed two to a byte."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open

# Suffix of the additional tensors of a 4-bit weight in a file.
PACKED_STATE = ".quant_state.bitsandbytes__"
# Attribute of 4-bit layers since 0.49.
REPACKING = "support_avx512bf16_for_cpu"


def stands_for(parameter: torch.nn.Parameter) -> int:
    """Return the number of weights in a parameter; packed 4-bit weights are counted individually."""
    # If bitsandbytes is not imported, no weight is packed; its import takes a second.
    library: Any = sys.modules.get("bitsandbytes")
    packed = library is not None and isinstance(parameter, library.nn.Params4bit)
    if packed and cast(Any, parameter).bnb_quantized:
        return parameter.numel() * 2 * parameter.element_size()
    return parameter.numel()


def keep_precision(model: torch.nn.Module) -> None:
    """Stop 4-bit layers from repacking themselves at the first forward pass in evaluation mode.

    bitsandbytes 0.49 and later repacks them on CPUs with AVX512-BF16: permanently, in bfloat16 whatever the compute
    dtype, and without gradients, so that after the first validation no gradient would pass through these layers. It
    also fails on layers whose width is not a multiple of 32.
    """
    for part in model.modules():
        if hasattr(part, REPACKING):
            setattr(part, REPACKING, False)


def packed_weights(path: Path, names: Iterable[str]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield name, unpacked dtype and unpacked shape of the 4-bit weights in a file.

    bitsandbytes writes the shape as JSON into an additional tensor (`QuantState.as_dict(packed=True)`).

    Args:
        path: A safetensors file.
        names: Names of all tensors in it.
    """
    states = [name for name in names if PACKED_STATE in name]
    if not states:
        return
    with safe_open(path, framework="np") as file:
        for name in states:
            state = json.loads(file.get_tensor(name).tobytes())
            yield name.partition(PACKED_STATE)[0], str(state["dtype"]), tuple(state["shape"])


def is_eight_bit_layer(module: torch.nn.Module) -> bool:
    """Return whether a module is an 8-bit layer, whose products are in fp16 whatever its input is."""
    library: Any = sys.modules.get("bitsandbytes")
    return library is not None and isinstance(module, library.nn.Linear8bitLt)


def compute_in(dtype: torch.dtype, module: torch.nn.Module) -> None:
    """Let the 4-bit layers of a module multiply in another precision."""
    library: Any = sys.modules.get("bitsandbytes")
    for part in module.modules():
        if library is not None and isinstance(part, library.nn.Linear4bit):
            cast(Any, part).compute_dtype = dtype
            cast(Any, part).compute_type_is_set = True
