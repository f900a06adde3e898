"""What is used of bitsandbytes beyond its promises is still there, and does what it is used for."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from medqa_finetune.compat import bitsandbytes as compat


@pytest.fixture(scope="module")
def quantized(micro_model: Path) -> Any:
    settings: Any = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
    )
    return AutoModelForCausalLM.from_pretrained(micro_model, quantization_config=settings)


def test_packed_weights_are_counted_one_by_one(micro_model: Path, quantized: Any) -> None:
    plain = AutoModelForCausalLM.from_pretrained(micro_model)
    counted = sum(map(compat.stands_for, quantized.parameters()))
    assert counted == sum(weight.numel() for weight in plain.parameters())
    assert counted > sum(weight.numel() for weight in quantized.parameters())


def test_counting_loads_no_library() -> None:
    program = (
        "import sys, torch; from medqa_finetune.compat.bitsandbytes import stands_for; "
        "assert stands_for(torch.nn.Parameter(torch.zeros(3))) == 3; assert 'bitsandbytes' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_layers_repack_themselves_unless_they_are_stopped(quantized: Any) -> None:
    """Where the flag is gone, look again at what `Linear4bit.forward` does in evaluation mode."""
    layers = [part for part in quantized.modules() if type(part).__name__ == "Linear4bit"]
    assert all(hasattr(layer, compat.REPACKING) for layer in layers)
    compat.keep_precision(quantized)
    assert not any(getattr(layer, compat.REPACKING) for layer in layers)


def test_stopped_layers_keep_their_weights_in_evaluation_mode(quantized: Any) -> None:
    compat.keep_precision(quantized)
    layer = quantized.model.layers[0].self_attn.q_proj
    before = layer.weight.data.clone()
    quantized.eval()(input_ids=torch.tensor([[1, 2, 3]]))
    assert torch.equal(layer.weight.data, before)
    assert layer(torch.ones(1, 64, requires_grad=True)).requires_grad


def test_files_say_which_shapes_packed_weights_stand_for(quantized: Any, micro_model: Path, tmp_path: Path) -> None:
    quantized.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    with safe_open(path, framework="np") as file:
        names = list(file.keys())
    found = {name: (dtype, shape) for name, dtype, shape in compat.packed_weights(path, names)}
    linear = {
        f"{name}.weight": ("float32", tuple(part.weight.shape))
        for name, part in AutoModelForCausalLM.from_pretrained(micro_model).named_modules()
        if isinstance(part, torch.nn.Linear) and name != "lm_head"
    }
    assert found == linear


def test_a_file_without_packed_weights_names_none(micro_model: Path) -> None:
    assert list(compat.packed_weights(micro_model / "model.safetensors", ["lm_head.weight"])) == []
