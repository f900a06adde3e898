"""Mixtures of experts: what gets adapters, how many weights that are, and that all ways to answer are one model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

from medqa_finetune.architecture.size import read_size, size_of_shapes
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.methods.registry import method_faults, model_method
from medqa_finetune.model.load import Device, load_base, load_model
from medqa_finetune.model.parameters import adapted_modules, count_parameters
from medqa_finetune.model.pruned import build_skeleton
from scripts.small_models import SIZES, make_tokenizer
from tests.faulty import only_fault
from tests.training.trial import logits, make_config, one_thread, train

CPU = Device("cpu", "CPU", "fp32")
IDS = torch.tensor([[5, 60, 7, 8, 90]])
FOUR = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "first_k_dense_replace": 1,
          "n_group": 1, "topk_group": 1, "n_shared_experts": 1}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "qwen3_moe": FOUR | {"head_dim": 16},
    "qwen2_moe": FOUR | {"shared_expert_intermediate_size": 32},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "glm4_moe": ROUTED | {"head_dim": 16},
    "deepseek_v3": ROUTED | {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
                             "v_head_dim": 16, "head_dim": 8, "num_key_value_heads": 4},
}  # fmt: skip
# Families in which peft takes dense layers and shared experts for experts of earlier versions.
TAKEN = ("glm4_moe", "deepseek_v3")
EXPERTS: dict[str, Any] = {"target_parameters": "experts", "dropout": 0.0, "rank": 3}


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random models of all kinds, as transformers writes them."""
    root, tokenizer, found = tmp_path_factory.mktemp("experts"), make_tokenizer(chat=True), {}
    for kind, settings in KINDS.items():
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
        config = AutoConfig.for_model(kind, **({"vocab_size": len(tokenizer)} | SIZES | ids | settings))
        torch.manual_seed(0)
        auto: Any = AutoModelForCausalLM
        auto.from_config(config).save_pretrained(root / kind)
        tokenizer.save_pretrained(root / kind)
        found[kind] = root / kind
    return found


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def lora(**changes: Any) -> MethodConfig:
    return MethodConfig(name="lora", **changes)


def base(folder: Path, method: MethodConfig, device: Device = CPU) -> Any:
    return load_base(folder, method, device, make_tokenizer(chat=True))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_experts_are_counted(folders: dict[str, Path], kind: str) -> None:
    model, size = build_skeleton(folders[kind]), read_size(folders[kind])
    assert size is not None
    experts = {name: weight for name, weight in model.named_parameters() if weight.ndim == 3}
    assert size.parameters == count_parameters(model)
    assert size.expert_weights == sum(weight.numel() for weight in experts.values())
    # Two of four experts.
    assert size.active_parameters == size.parameters - size.expert_weights // 2
    # By the names in files and by those in memory alike.
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    in_memory = size_of_shapes(shapes, model.config.to_dict(), 0)
    assert in_memory is not None
    assert sorted(in_memory.experts.values()) == sorted(size.experts.values())
    assert in_memory.linear_weights == size.linear_weights


@pytest.mark.parametrize("modules", ["all_linear", []], ids=["all_linear", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_experts_are_counted(folders: dict[str, Path], kind: str, modules: Any) -> None:
    method = model_method(lora(target_modules=modules, **EXPERTS))
    model, size = method.apply(build_skeleton(folders[kind])), read_size(folders[kind])
    assert size is not None
    assert method.trainable_parameters(size) == count_parameters(model, trainable_only=True)
    assert "experts.down_proj" in adapted_modules(model)
    assert method.training_flops(size).per_token > method.forward_flops(size).per_token


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss", "glm4_moe"])
def test_every_way_to_answer_is_the_trained_model(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    settings = lora(**EXPERTS)
    method, model = model_method(settings), load_model(folders[kind], settings, CPU, 0).model
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn_like(weight))
    trained = logits(model, IDS)
    assert (trained - logits(plain(folders[kind]), IDS)).abs().max() > 1e-3
    method.save(model, tmp_path / "adapter")
    restored = load_model(folders[kind], settings, CPU, 7).model
    method.restore(restored, tmp_path / "adapter")
    method.merge(base(folders[kind], settings), tmp_path / "adapter").save_pretrained(tmp_path / "merged")
    for other in (
        restored,
        method.for_inference(method.attach(base(folders[kind], settings), tmp_path / "adapter")),
        plain(tmp_path / "merged"),
        PeftModel.from_pretrained(plain(folders[kind]), tmp_path / "adapter"),
    ):
        torch.testing.assert_close(logits(other, IDS), trained, rtol=0, atol=1e-5)


def test_experts_are_trained(folders: dict[str, Path], tmp_path: Path) -> None:
    trial = train(folders["qwen3_moe"], tmp_path, make_config(EXPERTS, epochs=1, validations=2))
    losses = trial.column("eval_loss")
    assert losses[-1] < losses[0]
    moved = [weight for name, weight in trial.loaded.model.named_parameters() if "experts" in name and "lora_B" in name]
    assert moved
    assert all(weight.any() for weight in moved)


def test_adapters_of_experts_are_fp32_whatever_the_base_is(folders: dict[str, Path]) -> None:
    settings = lora(**EXPERTS)
    model = model_method(settings).apply(base(folders["qwen3_moe"], settings, Device("cpu", "CPU", "bf16")))
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    assert logits(model, IDS).isfinite().all()


def test_experts_without_adapters_are_told(folders: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    loaded = load_model(folders["mixtral"], lora(), CPU, 0)
    assert {name.split(".")[0] for name in loaded.parameters.adapted} == {"self_attn"}
    size = loaded.size
    assert size is not None
    assert loaded.parameters.active == size.active_parameters
    assert f"{size.expert_weights:,} weights of experts" in caplog.text
    assert "method.target_parameters=experts" in caplog.text
    assert "2 of 4 experts" in caplog.text


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_experts_are_not_counted_as_quantized(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture, quantization: str
) -> None:
    settings = lora(quantization=quantization)
    loaded = load_model(folders["qwen3_moe"], settings, CPU, 0)
    size = loaded.size
    assert size is not None
    assert f"{size.expert_weights:,} weights of experts stay in" in caplog.text
    in_memory = sum(weight.nbytes for weight in loaded.model.parameters())
    assert model_method(settings).weight_bytes(size, 4) == pytest.approx(in_memory, rel=0.05)


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("settings", [{}, {"dropout": 0.0, "quantization": "nf4"}, {"dropout": 0.0, "dora": True}])
def test_what_peft_would_put_elsewhere_is_refused(
    folders: dict[str, Path], kind: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ModelError) as caught:
        model_method(lora(**settings)).apply(build_skeleton(folders[kind]))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-supported", "method.target_modules", "all_linear")
    assert "method.target_modules=attention" in fault.hint
    assert model_method(lora(**settings, target_modules="attention")).apply(build_skeleton(folders[kind]))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (EXPERTS | {"dropout": 0.05}, "method.dropout"),
        (EXPERTS | {"dora": True}, "method.dora"),
        (EXPERTS | {"trains": "pissa"}, "method.target_parameters"),
        ({"trains": "all", "target_parameters": "experts"}, "method.target_parameters"),
    ],
)
def test_impossible_combinations_are_refused(settings: dict[str, Any], key: str) -> None:
    (fault,) = method_faults(MethodConfig(name="m", **settings))
    assert (fault.code, fault.key) == ("conflict", key)


@pytest.mark.parametrize("names", ["experts", ["experts.up"], ["experts.down_proj", "no_such"]])
def test_parameters_that_are_not_there_are_refused(micro_model: Path, folders: dict[str, Path], names: Any) -> None:
    folder = micro_model if names == "experts" else folders["qwen3_moe"]
    with pytest.raises(ModelError) as caught:
        model_method(lora(**(EXPERTS | {"target_parameters": names}))).apply(build_skeleton(folder))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("no-such-module", "method.target_parameters", names)
    assert fault.allowed == (("null",) if names == "experts" else ("experts.down_proj", "experts.gate_up_proj", "null"))


@pytest.mark.parametrize("name", ["gate_up_proj", "w1", "experts"])
def test_experts_as_modules_name_the_setting_for_them(folders: dict[str, Path], name: str) -> None:
    with pytest.raises(ModelError) as caught:
        model_method(lora(target_modules=["q_proj", name])).apply(build_skeleton(folders["mixtral"]))
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("no-such-module", "method.target_modules")
    assert "method.target_parameters=experts" in fault.hint


def test_vllm_refuses_separate_adapters_of_experts() -> None:
    method = model_method(lora(**EXPERTS))
    assert method.plain_form("fp32") == ("float32", None)
    with pytest.raises(ModelError) as caught:
        method.plain_form("bf16")
    assert only_fault(caught).key == "method.target_parameters"
