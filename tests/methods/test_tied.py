"""Adapters on a head or embedding that share their weights: every way to answer is the model that was trained."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.evaluation.vllm_backend import serving_faults
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import SAVED_ADAPTER
from medqa_finetune.methods.shared.adapters import attach_saved, merged
from medqa_finetune.model.load import Device, load_base, load_model, load_tokenizer
from medqa_finetune.model.parameters import count_parameters
from medqa_finetune.model.plain_export import write_plain
from medqa_finetune.model.requirements import Need
from tests.faulty import only_fault
from tests.model.sizes import size_of

CPU = Device("cpu", "CPU", "fp32")
IDS = torch.tensor([[5, 60, 7, 8, 90]])
METHODS: dict[str, dict[str, Any]] = {
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["model.embed_tokens", "q_proj"]},
    "dora": {"target_modules": ["lm_head", "embed_tokens"], "dora": True},
    "pissa": {"target_modules": ["lm_head", "q_proj"], "trains": "pissa"},
    "qlora": {"target_modules": ["lm_head", "q_proj"], "quantization": "nf4"},
}
# Other spellings, which only adapters trained elsewhere can have.
ELSEWHERE: dict[str, dict[str, Any]] = {
    "pattern": {"target_modules": r".*(lm_head|q_proj)"},
    "whole head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "whole, tied": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "adapters, tied": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [5, 60]},
    "parameter": {"target_modules": ["q_proj"], "target_parameters": ["lm_head.weight"]},
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without peft's warnings of ties in the models that are made by peft alone here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


@torch.no_grad()
def disturb(model: Any) -> torch.Tensor:
    """Change everything that is trained, as training would; return the logits."""
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.add_(0.05 * torch.randn_like(weight))
    return logits(model)


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def close(model: Any, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(logits(model), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_every_way_to_answer_is_the_trained_model(micro_model: Path, tmp_path: Path, name: str) -> None:
    settings = MethodConfig(name="lora", dropout=0.0, rank=4, **METHODS[name])
    method, adapter = model_method(settings), tmp_path / "adapter"
    loaded = load_model(micro_model, settings, CPU, 0)
    assert plain(micro_model).config.tie_word_embeddings
    method.begin(loaded.model, 0, None)
    trained = disturb(loaded.model)
    assert (trained - logits(plain(micro_model))).abs().max() > 1e-2
    method.save(loaded.model, adapter)

    def base() -> Any:
        return load_base(micro_model, settings, CPU, loaded.tokenizer)

    restored = load_model(micro_model, settings, CPU, 7).model
    method.restore(restored, adapter)
    close(restored, trained)
    answering = method.for_inference(method.attach(base(), adapter))
    close(answering, trained)
    close(plain(write_plain(answering, tmp_path / "plain").model), trained)
    method.merge(base(), adapter).save_pretrained(tmp_path / "merged")
    close(plain(tmp_path / "merged"), trained)
    if settings.quantization == "none":
        close(PeftModel.from_pretrained(plain(micro_model), adapter), trained)
    # Frozen weights of the embedding, which peft saves by default, are not in the file.
    assert (adapter / "adapter_model.safetensors").stat().st_size < plain(micro_model).lm_head.weight.nbytes


@pytest.mark.parametrize("name", ELSEWHERE)
def test_adapters_trained_elsewhere_are_merged_as_they_were_trained(
    micro_model: Path, tmp_path: Path, name: str
) -> None:
    model = get_peft_model(plain(micro_model), LoraConfig(task_type="CAUSAL_LM", r=4, **ELSEWHERE[name]))
    trained = disturb(model)
    model.save_pretrained(str(tmp_path / "adapter"))
    attached = attach_saved(
        load_base(micro_model, SAVED_ADAPTER, CPU, load_tokenizer(micro_model)), tmp_path / "adapter"
    )
    close(attached, trained)
    whole = merged(attached)
    close(whole, trained)
    whole.save_pretrained(tmp_path / "merged")
    close(plain(tmp_path / "merged"), trained)


def test_without_adapters_on_them_weights_stay_tied(micro_model: Path, tmp_path: Path) -> None:
    settings = MethodConfig(name="lora", target_modules="all_linear")
    model: Any = model_method(settings).for_inference(load_model(micro_model, settings, CPU, 0).model)
    assert model.config.tie_word_embeddings
    inputs, outputs = cast(Any, model.get_input_embeddings()), cast(Any, model).get_output_embeddings()
    assert inputs.weight is outputs.weight


@pytest.mark.parametrize("modules", [["lm_head"], ["embed_tokens", "q_proj"]])
def test_adapters_on_them_are_counted(micro_model: Path, modules: list[str]) -> None:
    method = model_method(MethodConfig(name="lora", rank=3, target_modules=modules))
    model = method.apply(load_base(micro_model, SAVED_ADAPTER, CPU, load_tokenizer(micro_model)))
    size = size_of(micro_model)
    assert method.trainable_parameters(size) == count_parameters(model, trainable_only=True)
    assert method.training_flops(size).per_token > method.forward_flops(size).per_token


def test_pissa_refuses_embeddings(micro_model: Path) -> None:
    settings = MethodConfig(name="pissa", trains="pissa", target_modules=["embed_tokens"])
    with pytest.raises(ModelError) as caught:
        load_model(micro_model, settings, CPU, 0)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-supported", "method.target_modules", ["embed_tokens"])
    assert "method=lora" in fault.hint


@pytest.mark.parametrize("modules", [["lm_head"], ["embed_tokens", "q_proj"]])
def test_vllm_refuses_separate_adapters_on_them(micro_model: Path, modules: list[str]) -> None:
    settings = MethodConfig(name="lora", target_modules=modules)
    needs = [Need(str(micro_model), settings, "bf16", max_length=64, backend="vllm", max_new_tokens=8)]
    (fault,) = serving_faults(needs, "bf16")
    assert (fault.code, fault.key, fault.got) == ("not-supported", "method.target_modules", modules)
    assert "precision=fp32" in fault.hint
