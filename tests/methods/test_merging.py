"""Merged weights: what the adapter said beside its base, said by weights of their own."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import Device, load_base, load_model, load_tokenizer
from tests.faulty import only_fault

CPU = Device("cpu", "CPU", "fp32")
IDS = torch.tensor([[5, 60, 7, 8, 90, 11]])
LORA = MethodConfig(name="lora", dropout=0.1)
# int8 quantizes what comes in as well, with outliers set apart, so that no weights alone give the same to the digit.
TOLERANCE = {"none": 1e-5, "nf4": 1e-5, "fp4": 1e-5, "int8": 0.02}


def quantized(quantization: str) -> MethodConfig:
    return dataclasses.replace(LORA, quantization=quantization, double_quantization=quantization == "nf4")


def trained(model: Path, method: MethodConfig, folder: Path) -> Any:
    """Write the trained weights into the folder, and return the model that they were trained in."""
    found: Any = load_model(model, method, CPU, 0).model
    torch.manual_seed(1)
    for name, weight in found.named_parameters():
        if "lora_B" in name or method.trains == "all":
            weight.data += 0.05 * torch.randn_like(weight)
    found.save_pretrained(folder)
    return found.eval()


def merge(model: Path, method: MethodConfig, folder: Path) -> Any:
    base = load_base(model, method, CPU, load_tokenizer(model))
    merged: Any = model_method(method).merge(base, folder)
    return merged.eval()


@torch.no_grad()
def said(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
@pytest.mark.parametrize("quantization", TOLERANCE)
def test_the_merged_model_says_what_the_adapter_said_beside_its_base(
    micro_model: Path, tmp_path: Path, quantization: str
) -> None:
    method = quantized(quantization)
    expected = said(trained(micro_model, method, tmp_path))
    merged = merge(micro_model, method, tmp_path)
    difference = (said(merged) - expected).abs().max() / expected.abs().max()
    assert difference < TOLERANCE[quantization]
    assert {type(part).__name__ for part in merged.modules() if "Linear" in type(part).__name__} == {"Linear"}
    assert not [name for name, _ in merged.named_modules() if "lora" in name]
    assert not hasattr(merged.config, "quantization_config")
    assert {weight.dtype for weight in merged.parameters()} == {torch.float32}


@pytest.mark.parametrize("quantization", ["nf4", "fp4"])
def test_merging_into_four_bits_would_be_a_thousand_times_worse(
    micro_model: Path, tmp_path: Path, quantization: str
) -> None:
    """What peft does by itself (peft#2321, transformers#31293), beside what is done here."""
    method = quantized(quantization)
    model = trained(micro_model, method, tmp_path)
    expected = said(model)
    ours = (said(merge(micro_model, method, tmp_path)) - expected).abs().max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        into_four_bits = model.merge_and_unload().eval()
    assert (said(into_four_bits) - expected).abs().max() > 1000 * ours


def test_merging_into_the_original_weights_would_be_another_model(micro_model: Path, tmp_path: Path) -> None:
    expected = said(trained(micro_model, quantized("nf4"), tmp_path))
    ours = (said(merge(micro_model, quantized("nf4"), tmp_path)) - expected).abs().max()
    into_original = (said(merge(micro_model, LORA, tmp_path)) - expected).abs().max()
    assert into_original > 1000 * ours


def test_weights_that_were_all_trained_are_taken_as_they_are(micro_model: Path, tmp_path: Path) -> None:
    method = MethodConfig(name="full", trains="all")
    expected = said(trained(micro_model, method, tmp_path))
    assert torch.equal(said(merge(micro_model, method, tmp_path)), expected)


def test_an_adapter_that_holds_no_numbers_is_refused(micro_model: Path, tmp_path: Path) -> None:
    model = trained(micro_model, LORA, tmp_path)
    next(weight for name, weight in model.named_parameters() if "lora_B" in name).data.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        merge(micro_model, LORA, tmp_path)
    assert (only_fault(caught).code, only_fault(caught).file) == ("not-mergeable", str(tmp_path))


def test_an_adapter_of_another_rank_is_refused(micro_model: Path, tmp_path: Path) -> None:
    trained(micro_model, dataclasses.replace(LORA, rank=8), tmp_path)
    with pytest.raises(ModelError) as caught:
        merge(micro_model, LORA, tmp_path)
    assert (only_fault(caught).code, only_fault(caught).file) == ("weights-mismatch", str(tmp_path))
