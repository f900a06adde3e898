"""PiSSA: the base is divided as peft divides it, and trained weights say the same wherever they are loaded."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ConfigError, ModelError
from medqa_finetune.methods.lora import Lora
from medqa_finetune.methods.pissa import Pissa
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import SAVED_ADAPTER
from medqa_finetune.model.load import Device, load_base, load_model, load_tokenizer
from medqa_finetune.model.plain_export import write_plain
from medqa_finetune.precision import Precision
from tests.config.builders import VALID, changed
from tests.faulty import only_fault

IDS = torch.tensor([[5, 60, 7, 8, 90, 11]])
PISSA = MethodConfig(name="pissa", trains="pissa", rank=4, alpha=4, dropout=0.0)
KINDS = {"fp32": PISSA, "bf16": PISSA, "rslora": dataclasses.replace(PISSA, alpha=7, rslora=True)}
METHOD = model_method(PISSA)


def device(kind: str) -> Device:
    precision: Precision = "bf16" if kind == "bf16" else "fp32"
    return Device("cpu", "CPU", precision)


def fresh(folder: Path, kind: str = "fp32", seed: int = 0) -> Any:
    model: Any = load_model(folder, KINDS[kind], device(kind), seed).model
    return model.eval()


def base(folder: Path, kind: str = "fp32") -> Any:
    model: Any = load_base(folder, KINDS[kind], device(kind), load_tokenizer(folder))
    return model.eval()


def trained(folder: Path, kind: str = "fp32") -> Any:
    """A model that has been begun, and whose adapters are no longer what they were."""
    model = fresh(folder, kind)
    model_method(KINDS[kind]).begin(model, 0, None)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn_like(weight)
        assert weight.requires_grad is ("lora_A" in name or "lora_B" in name)
    return model


@torch.no_grad()
def said(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


def update(layer: Any) -> torch.Tensor:
    product: torch.Tensor = layer.lora_B["default"].weight.data @ layer.lora_A["default"].weight.data
    return product


def close(first: torch.Tensor, second: torch.Tensor, share: float = 1e-5) -> bool:
    return float((first - second).abs().max()) < share * float(second.abs().max())


def peaked(folder: Path) -> Any:
    """A base whose matrices have four singular values far above the others, as those of trained models have."""
    model = base(folder)
    torch.manual_seed(2)
    for part in model.model.layers.modules():
        if isinstance(part, torch.nn.Linear):
            rows, columns = part.weight.shape
            part.weight.data += torch.randn(rows, 4) @ torch.randn(4, columns) / columns
    return model


def test_the_base_is_divided_as_peft_divides_it(micro_model: Path) -> None:
    ours: Any = METHOD.apply(peaked(micro_model))
    METHOD.begin(ours, 0, None)
    modules = ours.peft_config["default"].target_modules
    adapter = LoraConfig(r=4, lora_alpha=4, init_lora_weights="pissa", target_modules=modules, task_type="CAUSAL_LM")
    theirs: Any = get_peft_model(peaked(micro_model), adapter)
    for layer in range(2):
        mine, other = (model.get_base_model().model.layers[layer].mlp.up_proj for model in (ours, theirs))
        torch.testing.assert_close(mine.base_layer.weight.data, other.base_layer.weight.data, rtol=0, atol=1e-5)
        torch.testing.assert_close(update(mine), update(other), rtol=0, atol=1e-5)
        sizes = [[weight["default"].weight.norm() for weight in (each.lora_A, each.lora_B)] for each in (mine, other)]
        torch.testing.assert_close(sizes[0], sizes[1])


def test_a_model_that_has_been_begun_says_what_its_base_does(micro_model: Path) -> None:
    model, plain = fresh(micro_model), base(micro_model)
    before = said(plain)
    assert torch.equal(said(model), before)
    METHOD.begin(model, 0, None)
    assert close(said(model), before)
    layers = [each.get_base_model().model.layers[0].mlp.up_proj for each in (model, fresh(micro_model))]
    assert not torch.allclose(layers[0].base_layer.weight, layers[1].base_layer.weight, rtol=0.01)
    METHOD.begin(model, 3, None)
    assert close(said(model), before)


@pytest.mark.parametrize("kind", KINDS)
def test_trained_weights_say_the_same_bit_by_bit_after_restoring(micro_model: Path, tmp_path: Path, kind: str) -> None:
    method, model = model_method(KINDS[kind]), trained(micro_model, kind)
    method.save(model, tmp_path / "saved")
    model.save_pretrained(tmp_path / "checkpoint")  # as transformers' Trainer does
    for name in ("saved", "checkpoint"):
        again = fresh(micro_model, kind, seed=7)
        method.restore(again, tmp_path / name)
        assert torch.equal(said(again), said(model))
        method.restore(again, tmp_path / name)
        assert torch.equal(said(again), said(model))
        begun = fresh(micro_model, kind, seed=7)
        method.begin(begun, 7, tmp_path / name)
        assert torch.equal(said(begun), said(model))
    attached: Any = method.attach(base(micro_model, kind), tmp_path / "saved")
    assert torch.equal(said(attached.eval()), said(model))


@pytest.mark.parametrize("kind", ["fp32", "rslora"])
def test_what_is_saved_is_an_ordinary_lora_adapter_of_the_base(micro_model: Path, tmp_path: Path, kind: str) -> None:
    model = trained(micro_model, kind)
    model_method(KINDS[kind]).save(model, tmp_path)
    plain: Any = model_method(SAVED_ADAPTER).attach(base(micro_model), tmp_path)
    assert plain.peft_config["default"].r == 8
    assert close(said(plain.eval()), said(model))
    assert not close(said(plain), said(base(micro_model)), 0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_says_what_the_trained_one_did(micro_model: Path, tmp_path: Path, kind: str) -> None:
    method, model = model_method(KINDS[kind]), trained(micro_model, kind)
    method.save(model, tmp_path)
    merged = method.merge(base(micro_model, kind), tmp_path)
    assert {weight.dtype for weight in merged.parameters()} == {torch.float32}
    # In half precision the products round; the weights themselves are those that were trained.
    assert close(said(merged), said(model).float(), 0.02 if kind == "bf16" else 1e-5)
    assert close(said(merged), said(model.float()))


@pytest.mark.parametrize("kind", KINDS)
def test_other_programs_get_plain_weights_and_an_adapter_of_the_usual_names(
    micro_model: Path, tmp_path: Path, kind: str
) -> None:
    method, model = model_method(KINDS[kind]), trained(micro_model, kind)
    expected = said(model)
    plain = write_plain(method.for_inference(model), tmp_path)
    assert (plain.dtype, plain.rank) == method.plain_form(device(kind).precision)
    found: Any = load_base(plain.model, PISSA, device(kind), load_tokenizer(micro_model))
    if plain.adapter is not None:
        found = model_method(SAVED_ADAPTER).attach(found, plain.adapter)
    assert (plain.adapter is None) is (kind != "bf16")
    assert close(said(found.eval()).float(), expected.float())


@pytest.mark.parametrize(("key", "value"), [("quantization", "nf4"), ("quantization", "int8"), ("dora", True)])
def test_what_cannot_be_right_is_refused_with_the_settings(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(VALID, **{"method__trains": "pissa", f"method__{key}": value})
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("conflict", f"method.{key}", value)


def test_an_adapter_of_another_rank_is_refused_and_the_base_stays(micro_model: Path, tmp_path: Path) -> None:
    METHOD.save(trained(micro_model), tmp_path)
    method = model_method(dataclasses.replace(PISSA, rank=8))
    model: Any = method.apply(base(micro_model))
    with pytest.raises(ModelError) as caught:
        method.restore(model, tmp_path)
    assert only_fault(caught).code == "weights-mismatch"
    assert torch.equal(said(model.eval()), said(base(micro_model)))


def test_costs_are_those_of_lora_and_of_the_first_weights(qwen_3b: Any) -> None:
    lora, pissa = Lora(PISSA), Pissa(PISSA)
    adapters = lora.trainable_parameters(qwen_3b) * 4
    assert pissa.trainable_parameters(qwen_3b) * 4 == adapters
    assert pissa.training_flops(qwen_3b) == lora.training_flops(qwen_3b)
    assert pissa.weight_bytes(qwen_3b, 2) - lora.weight_bytes(qwen_3b, 2) == adapters
    assert pissa.saved_bytes(qwen_3b) == 2 * lora.saved_bytes(qwen_3b) == 2 * adapters
