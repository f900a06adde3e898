import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM, Qwen2Config, Qwen2ForCausalLM, TrainingArguments

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import NO_VALUE, ModelError
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.shared.adapters import attach_saved
from medqa_finetune.model.load import Device, load_base, load_model, load_tokenizer
from medqa_finetune.model.parameters import count_parameters
from tests.faulty import only_fault

CPU = Device("cpu", "CPU", "fp32")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def lora(**changes: Any) -> MethodConfig:
    return MethodConfig(name="lora", **changes)


def base(folder: Path, method: MethodConfig) -> Any:
    return load_base(folder, method, CPU, load_tokenizer(folder))


def qwen_3b() -> Any:
    """Qwen2.5-3B-Instruct by its published config.json, without memory for its weights."""
    with torch.device("meta"):
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=151936,
                hidden_size=2048,
                intermediate_size=11008,
                num_hidden_layers=36,
                num_attention_heads=16,
                num_key_value_heads=2,
                tie_word_embeddings=True,
            )
        )
    model.tie_weights()
    return model


def test_qwen_3b_has_as_many_weights_as_its_model_card_says() -> None:
    # "3.09B" on the card. By hand: embedding 151936*2048; per layer q 2048*2048+2048, k and v 2048*256+256 each,
    # o 2048*2048, three MLP matrices 2048*11008, two norms of 2048; a last norm of 2048.
    assert count_parameters(qwen_3b()) == 3_085_938_688


@pytest.mark.parametrize(
    ("modules", "trainable"),
    [
        # r * (inputs + outputs): q and o 16*4096, k and v 16*2304, gate, up and down 16*13056; 36 layers.
        ("all_linear", 36 * 16 * (2 * 4096 + 2 * 2304 + 3 * 13056)),
        ("attention_mlp", 36 * 16 * (2 * 4096 + 2 * 2304 + 3 * 13056)),
        ("attention", 36 * 16 * (2 * 4096 + 2 * 2304)),
        (ATTENTION, 36 * 16 * (2 * 4096 + 2 * 2304)),
    ],
    ids=["all_linear", "attention_mlp", "attention", "list"],
)
def test_adapter_of_qwen_3b_has_the_published_size(modules: Any, trainable: int) -> None:
    assert trainable in (29_933_568, 7_372_800)
    model = model_method(lora(target_modules=modules)).apply(qwen_3b())
    assert count_parameters(model, trainable_only=True) == trainable
    assert count_parameters(model) == 3_085_938_688 + trainable


def phi_2() -> Any:
    """Phi-2 by its published config.json, without memory for its weights."""
    with torch.device("meta"):
        return PhiForCausalLM(
            PhiConfig(
                vocab_size=51200,
                hidden_size=2560,
                intermediate_size=10240,
                num_hidden_layers=32,
                num_attention_heads=32,
            )
        )


def test_adapter_of_phi_2_has_the_published_size() -> None:
    # r * (inputs + outputs): q, k, v and dense 8*5120 each, fc1 and fc2 8*12800 each; 32 layers.
    assert 32 * 8 * (4 * 5120 + 2 * 12800) == 11_796_480
    model = phi_2()
    assert count_parameters(model) == 2_779_683_840
    assert count_parameters(model_method(lora(rank=8)).apply(model), trainable_only=True) == 11_796_480


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_quantized_weights_are_counted_one_by_one(micro_model: Path, quantization: str) -> None:
    plain, packed = base(micro_model, lora()), base(micro_model, lora(quantization=quantization))
    assert count_parameters(packed) == count_parameters(plain)
    counts = [count_parameters(model_method(lora()).apply(model), trainable_only=True) for model in (plain, packed)]
    assert counts[0] == counts[1] > 0


def test_adapter_trains_low_rank_weights_alone(micro_model: Path) -> None:
    model = model_method(lora()).apply(base(micro_model, lora()))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if ".lora_A." in name or ".lora_B." in name}
    assert trained


def test_all_trains_every_weight(micro_model: Path) -> None:
    method = MethodConfig(name="full", trains="all")
    model = model_method(method).apply(base(micro_model, method))
    assert count_parameters(model, trainable_only=True) == count_parameters(model)


def test_nothing_trains_no_weight(micro_model: Path) -> None:
    method = MethodConfig(name="none", trains="nothing")
    assert count_parameters(model_method(method).apply(base(micro_model, method)), trainable_only=True) == 0


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_adapters_sit_on_every_linear_layer_but_the_head(micro_model: Path, quantization: str) -> None:
    model: Any = model_method(lora()).apply(base(micro_model, lora(quantization=quantization)))
    adapted = {name.rpartition(".")[0] for name, _ in model.named_modules() if name.endswith(".lora_A")}
    mlp = ["gate_proj", "up_proj", "down_proj"]
    parts = [f"self_attn.{name}" for name in ATTENTION] + [f"mlp.{name}" for name in mlp]
    assert adapted == {f"base_model.model.model.layers.{layer}.{part}" for layer in (0, 1) for part in parts}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_adapter_weights_are_fp32_whatever_the_base_is(micro_model: Path, quantization: str, precision: Any) -> None:
    method = lora(quantization=quantization)
    device = Device("cpu", "CPU", precision)
    model = model_method(method).apply(load_base(micro_model, method, device, load_tokenizer(micro_model)))
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


@pytest.mark.parametrize("modules", ["all_linear", ATTENTION], ids=["all_linear", "attention"])
def test_adapted_modules_are_written_in_one_order(micro_model: Path, modules: Any) -> None:
    method = lora(target_modules=modules)
    model: Any = model_method(method).apply(base(micro_model, method))
    written = model.peft_config["default"].to_dict()["target_modules"]
    assert isinstance(written, list)
    assert written == sorted(written)
    assert len(written) >= len(ATTENTION)


def test_new_adapter_changes_nothing_yet(micro_model: Path) -> None:
    model = base(micro_model, lora())
    ids = torch.tensor([[5, 6, 7]])
    before = model(ids).logits
    adapted: Any = model_method(lora()).apply(model)
    torch.testing.assert_close(adapted.eval()(ids).logits, before)


def test_rank_scale_and_dropout_are_those_of_the_method(micro_model: Path) -> None:
    model: Any = model_method(lora(rank=4, alpha=12, dropout=0.25)).apply(base(micro_model, lora()))
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    assert layer.lora_A["default"].weight.shape == (4, 64)
    assert layer.scaling["default"] == 12 / 4
    assert layer.lora_dropout["default"].p == 0.25


def test_rslora_scales_by_the_root_of_the_rank(micro_model: Path) -> None:
    model: Any = model_method(lora(rank=4, alpha=12, rslora=True)).apply(base(micro_model, lora()))
    assert model.get_base_model().model.layers[0].mlp.up_proj.scaling["default"] == 12 / 4**0.5


def test_dora_trains_the_length_of_every_row(micro_model: Path) -> None:
    model: Any = model_method(lora(rank=4, dora=True)).apply(base(micro_model, lora()))
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    length = layer.lora_magnitude_vector["default"].weight
    assert length.requires_grad
    # Liu et al. 2024, section 4.1: at first, the norms of the rows of the frozen weight.
    torch.testing.assert_close(length, layer.base_layer.weight.norm(dim=1))


def learning_rates(folder: Path, method: MethodConfig, optim: str) -> Any:
    model = load_model(folder, method, CPU, 0).model
    arguments = TrainingArguments("unused", learning_rate=1e-3, weight_decay=0.1, optim=optim, report_to="none")
    optimizer = model_method(method).optimizer(model, arguments)
    assert optimizer is not None
    names = {id(weight): name for name, weight in model.named_parameters()}
    rates = {names[id(w)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups
             for w in group["params"]}  # fmt: skip
    assert rates.keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
    return rates


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_8bit", "paged_adamw_8bit"])
@pytest.mark.parametrize("dora", [False, True])
def test_loraplus_gives_the_upper_half_a_higher_learning_rate(micro_model: Path, optim: str, dora: bool) -> None:
    rates = learning_rates(micro_model, lora(loraplus_ratio=16.0, dora=dora), optim)
    assert {rate for name, rate in rates.items() if "lora_A" in name} == {(1e-3, 0.1)}
    assert {rate for name, rate in rates.items() if "lora_B" in name} == {(16e-3, 0.1)}


def test_without_loraplus_the_optimizer_is_left_to_transformers(micro_model: Path) -> None:
    arguments = TrainingArguments("unused", report_to="none")
    for method in (lora(), MethodConfig(name="full", trains="all")):
        assert model_method(method).optimizer(load_model(micro_model, method, CPU, 0).model, arguments) is None


@pytest.mark.parametrize(
    "modules",
    [["query_key_value"], ["q_proj", "query_key_value"], ["input_layernorm"]],
    ids=["none fits", "one of two fits", "no matrix"],
)
def test_unknown_module_names_the_linear_layers_there_are(modules: list[str], micro_model: Path) -> None:
    with pytest.raises(ModelError) as caught:
        model_method(lora(target_modules=modules)).apply(base(micro_model, lora()))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("no-such-module", "method.target_modules", modules)
    assert sorted(fault.allowed) == sorted([*ATTENTION, "gate_proj", "up_proj", "down_proj"])


TRAINED = {
    "adapter": MethodConfig(name="lora", dropout=0.0),
    "quantized": MethodConfig(name="qlora", quantization="nf4", dropout=0.0),
    "all": MethodConfig(name="full", trains="all"),
    "dora": MethodConfig(name="lora", dropout=0.0, dora=True, rslora=True),
    "quantized dora": MethodConfig(name="qlora", quantization="fp4", dropout=0.0, dora=True),
}


def disturbed(folder: Path, method: MethodConfig) -> Any:
    """A model whose trainable weights are all different from those it was made with."""
    model = load_model(folder, method, CPU, 0).model
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", TRAINED)
def test_trained_weights_come_back_bit_by_bit(micro_model: Path, tmp_path: Path, name: str) -> None:
    trained = disturbed(micro_model, TRAINED[name])
    trained.save_pretrained(tmp_path)
    fresh: Any = load_model(micro_model, TRAINED[name], CPU, 7).model
    model_method(TRAINED[name]).restore(fresh, tmp_path)
    ids = torch.tensor([[5, 60, 7, 8]])
    with torch.no_grad():
        assert torch.equal(fresh.eval()(input_ids=ids).logits, trained.eval()(input_ids=ids).logits)


def test_nothing_is_restored_where_nothing_was_trained(micro_model: Path, tmp_path: Path) -> None:
    method = MethodConfig(name="none", trains="nothing")
    model_method(method).restore(load_model(micro_model, method, CPU, 0).model, tmp_path / "no such folder")


@pytest.mark.parametrize(
    ("saved", "wanted", "got"),
    [
        ({"rank": 8}, {}, [8, 128]),
        ({"target_modules": ["q_proj"]}, {}, NO_VALUE),
        ({}, {"target_modules": ["q_proj"]}, NO_VALUE),
    ],
    ids=["other shapes", "too few", "too many"],
)
def test_an_adapter_of_other_settings_is_refused_whole(
    micro_model: Path, tmp_path: Path, saved: dict[str, Any], wanted: dict[str, Any], got: Any
) -> None:
    disturbed(micro_model, dataclasses.replace(TRAINED["adapter"], **saved)).save_pretrained(tmp_path)
    method = dataclasses.replace(TRAINED["adapter"], **wanted)
    model = load_model(micro_model, method, CPU, 0).model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        model_method(method).restore(model, tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.file, fault.got) == ("weights-mismatch", str(tmp_path), got)
    assert str(fault.key).startswith("base_model.model.")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_damaged_trained_weights_are_named(micro_model: Path, tmp_path: Path) -> None:
    disturbed(micro_model, TRAINED["adapter"]).save_pretrained(tmp_path)
    os.truncate(tmp_path / "adapter_model.safetensors", 100)
    model = load_model(micro_model, TRAINED["adapter"], CPU, 0).model
    with pytest.raises(ModelError) as caught:
        model_method(TRAINED["adapter"]).restore(model, tmp_path)
    assert (only_fault(caught).code, only_fault(caught).file) == ("damaged-file", str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "code", "key"),
    [
        ({"peft_type": "IA3"}, "not-allowed", "peft_type"),
        ({"of_tomorrow": 3}, "unknown-key", "of_tomorrow"),
        ({"layers_to_transform": [0], "target_modules": "q"}, "damaged-file", None),
    ],
)
def test_settings_of_an_adapter_that_peft_does_not_take_are_named(
    micro_model: Path, tmp_path: Path, changes: dict[str, Any], code: str, key: str | None
) -> None:
    disturbed(micro_model, TRAINED["adapter"]).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        attach_saved(base(micro_model, TRAINED["adapter"]), tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == (code, key, str(path))


def answering(folder: Path, method: MethodConfig, precision: Any = "fp32") -> tuple[Any, torch.Tensor, Any]:
    """A trained model, what it says, and the form of it that answers."""
    model: Any = load_model(folder, method, Device("cpu", "CPU", precision), 0).model
    model.eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    with torch.no_grad():
        said = model(input_ids=torch.tensor([[5, 60, 7, 8]])).logits.clone()
    return model, said, model_method(method).for_inference(model)


@pytest.mark.parametrize("name", ["adapter", "dora"])
def test_an_adapter_is_merged_for_inference_and_says_the_same(micro_model: Path, name: str) -> None:
    _, said, merged = answering(micro_model, TRAINED[name])
    assert type(merged) is Qwen2ForCausalLM
    assert not [name for name, _ in merged.named_modules() if "lora" in name]
    with torch.no_grad():
        found = merged(input_ids=torch.tensor([[5, 60, 7, 8]])).logits
    torch.testing.assert_close(found, said, rtol=1e-4, atol=1e-5)
    plain = base(micro_model, TRAINED["adapter"])(input_ids=torch.tensor([[5, 60, 7, 8]])).logits
    assert (plain - said).abs().max() > 0.01


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        (TRAINED["adapter"], "bf16"),
        (TRAINED["quantized"], "fp32"),
        (lora(quantization="int8"), "fp32"),
        (TRAINED["all"], "fp32"),
        (MethodConfig(name="none", trains="nothing"), "fp32"),
    ],
    ids=["half precision", "nf4", "int8", "all", "nothing"],
)
def test_nothing_is_merged_where_rounding_would_change_it(
    micro_model: Path, method: MethodConfig, precision: Any
) -> None:
    model, said, same = answering(micro_model, method, precision)
    assert same is model
    with torch.no_grad():
        assert torch.equal(same(input_ids=torch.tensor([[5, 60, 7, 8]])).logits, said)
