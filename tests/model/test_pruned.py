"""Models whose layers differ in size: loaded as they are, refused where their matrices do not fit each other."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from medqa_finetune.architecture.size import read_size
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import Device, load_model
from medqa_finetune.model.parameters import count_parameters
from medqa_finetune.model.pruned import build_skeleton, from_pretrained, layer_sizes
from medqa_finetune.record.schema import LayerSizes
from scripts.small_models import HEADS, INTERMEDIATE, KEY_HEADS, prune, write_micro_model
from tests.faulty import only_fault
from tests.methods.test_flops import counted, estimated

CPU = Device("cpu", "CPU", "fp32")
FULL = MethodConfig(name="full", trains="all")
NONE = MethodConfig(name="none", trains="nothing")
SIZES = LayerSizes(HEADS, KEY_HEADS, INTERMEDIATE)
IDS = torch.tensor([[5, 60, 7, 8, 90]])
ATTENTION = "model.layers.1.self_attn"


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    return write_micro_model(tmp_path / "pruned", "pruned")


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def cut(name: str, rows: int | None = None, columns: int | None = None) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: weights.update({name: weights[name][:rows, :columns].clone()})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
        return found


def test_a_pruned_model_computes_what_zeros_in_the_whole_one_compute(tmp_path: Path) -> None:
    """Independent of how layers are resized: a head or neuron without output weights is one that is not there."""
    whole = write_micro_model(tmp_path / "whole")
    model: Any = AutoModelForCausalLM.from_pretrained(whole)
    with torch.no_grad():
        for layer, heads, intermediate in zip(model.model.layers, HEADS, INTERMEDIATE, strict=True):
            layer.self_attn.o_proj.weight[:, 16 * heads :] = 0
            layer.mlp.down_proj.weight[:, intermediate:] = 0
    # A copy: the weights in memory may still be those of the file.
    cut_down = Path(shutil.copytree(whole, tmp_path / "cut_down"))
    prune(cut_down)
    torch.testing.assert_close(logits(from_pretrained(cut_down)), logits(model), rtol=1e-5, atol=1e-6)


def test_plain_transformers_refuses_what_is_loaded_here(pruned: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ignore_mismatched_sizes|size mismatch"):
        AutoModelForCausalLM.from_pretrained(pruned)
    assert layer_sizes(from_pretrained(pruned)) == SIZES


def test_an_even_model_is_plain_transformers_own(micro_model: Path) -> None:
    model = from_pretrained(micro_model)
    assert type(model) is type(AutoModelForCausalLM.from_pretrained(micro_model))
    assert layer_sizes(model) is None
    assert layer_sizes(load_model(micro_model, MethodConfig(name="lora"), CPU, 0).model) is None


def test_skeleton_and_estimate_have_the_sizes_of_the_files(pruned: Path) -> None:
    weights = load_file(pruned / "model.safetensors")
    assert {name: part.shape for name, part in build_skeleton(pruned).named_parameters()} == {
        name: weight.shape for name, weight in weights.items()
    }
    size = read_size(pruned)
    assert size is not None
    assert size.parameters == sum(weight.numel() for weight in weights.values())
    assert (size.attention_widths, size.key_widths) == ([32, 64], [16, 32])
    method = MethodConfig(name="lora", target_modules="attention")
    model = model_method(method).apply(from_pretrained(pruned))
    assert model_method(method).trainable_parameters(size) == count_parameters(model, trainable_only=True)


def test_arithmetic_is_what_torch_counts(pruned: Path) -> None:
    size = read_size(pruned)
    assert size is not None
    model = from_pretrained(pruned, attn_implementation="eager")
    assert estimated(model_method(NONE).forward_flops(size)) == counted(model, train=False)


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_the_record_knows_the_sizes_however_weights_are_held(quantization: str, pruned: Path) -> None:
    loaded = load_model(pruned, MethodConfig(name="m", quantization=quantization), CPU, 0)
    assert loaded.layers == SIZES
    assert loaded.parameters.total == sum(weight.numel() for weight in load_file(pruned / "model.safetensors").values())


def test_trained_in_full_it_is_saved_and_loaded_with_its_sizes(pruned: Path, tmp_path: Path) -> None:
    model: Any = load_model(pruned, FULL, CPU, 0).model
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01)
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]
    assert torch.equal(logits(from_pretrained(tmp_path / "saved")), logits(model))
    fresh: Any = load_model(pruned, FULL, CPU, 0).model
    model_method(FULL).restore(fresh, tmp_path / "saved")
    assert torch.equal(logits(fresh), logits(model))


@pytest.mark.parametrize("family", ["llama", "phi"])
def test_other_families_are_kept_too(family: str, tmp_path: Path) -> None:
    folder = write_micro_model(tmp_path / family, family)
    before = logits(AutoModelForCausalLM.from_pretrained(folder))
    inner = ("fc1", "fc2") if family == "phi" else ("up_proj", "down_proj")
    edit(folder, cut(f"model.layers.0.mlp.{inner[0]}.weight", rows=40))
    edit(folder, cut(f"model.layers.0.mlp.{inner[1]}.weight", columns=40))
    if family == "phi":
        name = "model.layers.0.mlp.fc1.bias"
        edit(folder, lambda weights: weights.update({name: weights[name][:40].clone()}))
    else:
        edit(folder, cut("model.layers.0.mlp.gate_proj.weight", rows=40))
    model = from_pretrained(folder)
    assert layer_sizes(model) == LayerSizes([4, 4], [2, 2], [40, 128])
    assert 0 < (logits(model) - before).abs().max() < 1


@pytest.mark.parametrize(
    ("part", "rows", "columns", "numbers"),
    [
        ("self_attn.q_proj", 48, None, ["48", "64"]),
        ("self_attn.k_proj", 16, None, ["16", "32"]),
        ("self_attn.o_proj", 48, None, ["64"]),
        ("mlp.gate_proj", 100, None, ["100", "72"]),
        ("mlp.up_proj", 70, None, ["72", "70"]),
        ("mlp.up_proj", None, 60, ["64"]),
    ],
)
def test_matrices_that_do_not_fit_each_other_are_refused_by_name(
    part: str, rows: int | None, columns: int | None, numbers: list[str], pruned: Path
) -> None:
    if part == "mlp.gate_proj":  # down_proj is what is left of it
        edit(pruned, lambda weights: weights.update({f"model.layers.1.{part}.weight": torch.zeros(rows or 0, 64)}))
    else:
        edit(pruned, cut(f"model.layers.1.{part}.weight", rows, columns))
    with pytest.raises(ModelError) as caught:
        build_skeleton(pruned)
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("weights-mismatch", str(pruned))
    assert fault.key == f"model.layers.1.{part.split('.', maxsplit=1)[0]}"
    assert re.findall(r"\b\d+\b", fault.problem) == numbers


@pytest.mark.parametrize(("queries", "numbers"), [(40, ["40", "32", "16"]), (48, ["3", "2"])])
def test_heads_must_be_whole_and_share_evenly(queries: int, numbers: list[str], pruned: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[f"{ATTENTION}.q_proj.weight"] = torch.zeros(queries, 64)
        weights[f"{ATTENTION}.o_proj.weight"] = torch.zeros(64, queries)

    with pytest.raises(ModelError) as caught:
        build_skeleton(edit(pruned, change))
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("weights-mismatch", ATTENTION)
    assert re.findall(r"\b\d+\b", fault.problem) == numbers


def test_other_kinds_are_refused_rather_than_guessed(tmp_path: Path) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings: dict[str, Any] = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
    Qwen3ForCausalLM(Qwen3Config(**settings, num_attention_heads=4, head_dim=16)).save_pretrained(tmp_path)
    edit(tmp_path, cut("model.layers.0.mlp.up_proj.weight", rows=40))
    edit(tmp_path, cut("model.layers.0.mlp.gate_proj.weight", rows=40))
    edit(tmp_path, cut("model.layers.0.mlp.down_proj.weight", columns=40))
    with pytest.raises(ModelError) as caught:
        build_skeleton(tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-supported", "model_type", "qwen3")
    assert fault.allowed == ("llama", "phi", "qwen2")


def test_an_embedding_of_another_size_is_still_refused(pruned: Path) -> None:
    edit(pruned, cut("model.embed_tokens.weight", rows=200))
    with pytest.raises(ModelError) as caught:
        load_model(pruned, NONE, CPU, 0)
    assert (only_fault(caught).code, only_fault(caught).file) == ("not-loadable", str(pruned))
