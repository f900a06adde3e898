"""Arithmetic estimated from shapes, against what torch's own counter sees in a forward and a backward pass."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from medqa_finetune.architecture.flops import Flops
from medqa_finetune.architecture.size import ModelSize, read_size
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.pruned import from_pretrained
from scripts.small_models import write_micro_model

TOKENS, ANSWER = 24, 7
FULL = MethodConfig(name="full", trains="all")
NONE = MethodConfig(name="none", trains="nothing")


def lora(*modules: str) -> MethodConfig:
    return MethodConfig(name="lora", rank=4, dropout=0.0, target_modules=list(modules) or "all_linear")


def model_of(folder: Path, method: MethodConfig) -> Any:
    """Return a model that multiplies matrices for its attention, which the counter sees."""
    config = AutoConfig.from_pretrained(folder)
    built: Any = AutoModelForCausalLM
    return model_method(method).apply(built.from_config(copy.deepcopy(config), attn_implementation="eager"))


def counted(model: Any, *, train: bool) -> int:
    """Return what torch counts on one sequence, whose last tokens are the answer."""
    ids = torch.arange(TOKENS).unsqueeze(0)
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=ANSWER).logits
        if train:
            logits.sum().backward()
    # Some releases of transformers make the angles of positions by a product, which is none of the model's weights.
    angles = [sum(counts.values()) for name, counts in counter.get_flop_counts().items() if name.endswith("rotary_emb")]
    return int(counter.get_total_flops() - sum(angles))


def estimated(cost: Flops) -> int:
    # Eager attention looks at all positions and masks those behind: the square, not its half.
    return TOKENS * cost.per_token + ANSWER * cost.per_answer_token + TOKENS**2 * cost.per_attended


def size_of(folder: Path) -> ModelSize:
    size = read_size(folder)
    assert size is not None
    return size


@pytest.mark.parametrize("method", [FULL, lora()], ids=["full", "adapter"])
def test_training_takes_what_torch_counts(method: MethodConfig, micro_model: Path) -> None:
    found = counted(model_of(micro_model, method), train=True)
    assert estimated(model_method(method).training_flops(size_of(micro_model))) == found


@pytest.mark.parametrize("method", [NONE, lora()], ids=["base", "adapter"])
def test_a_forward_pass_takes_what_torch_counts(method: MethodConfig, micro_model: Path) -> None:
    found = counted(model_of(micro_model, method), train=False)
    assert estimated(model_method(method).forward_flops(size_of(micro_model))) == found


@pytest.mark.parametrize("method", [FULL, NONE, lora()], ids=["full", "base", "adapter"])
@pytest.mark.parametrize("family", ["llama", "phi", "pruned"])
def test_other_families_take_what_torch_counts(family: str, method: MethodConfig, tmp_path: Path) -> None:
    folder = write_micro_model(tmp_path / family, family)
    trains = method.trains != "nothing"
    found = counted(model_method(method).apply(from_pretrained(folder, attn_implementation="eager")), train=trains)
    cost = estimated(model_method(method).training_flops(size_of(folder)))
    # Of the lowest layer alone, whose MLP reads the layer's input: an eighth of one of the two layers.
    high = 1.06 if family == "phi" and method.trains == "adapter" else 1
    assert found <= cost <= high * found


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["o_proj"], ["down_proj"], ["layers.1.self_attn.k_proj"]])
def test_an_adapter_of_some_layers_is_estimated_a_little_high(modules: list[str], micro_model: Path) -> None:
    """In the lowest layer, gradients are estimated below the adapter as well: one layer of all, at most."""
    found = counted(model_of(micro_model, lora(*modules)), train=True)
    cost = estimated(model_method(lora(*modules)).training_flops(size_of(micro_model)))
    one_layer = counted(model_of(micro_model, NONE), train=False) // size_of(micro_model).layers
    assert found <= cost < found + one_layer


def test_nothing_is_trained_by_the_base(micro_model: Path) -> None:
    assert model_method(NONE).training_flops(size_of(micro_model)) == model_method(NONE).forward_flops(
        size_of(micro_model)
    )


def test_every_position_looks_at_itself_and_those_before() -> None:
    # Sequences of 3 and 4 tokens: 1 + 2 + 3 and 1 + 2 + 3 + 4 positions.
    assert Flops(0, 0, 1).of(7, 0, 9 + 16) == 6 + 10
    assert Flops(100, 10, 1).of(7, 2, 9 + 16) == 700 + 20 + 16
