"""Folded adapters against peft's own layers, for every kind of adapter and of base."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from medqa_finetune.compat.peft import has_adapter
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.methods.shared.adapters import save_adapters
from medqa_finetune.methods.shared.folded_adapters import fold_adapters
from medqa_finetune.model.answering import answering_form
from medqa_finetune.model.fp32_blocks import compute_in_fp32
from medqa_finetune.model.load import Device, load_model
from tests.training.trial import one_thread

IDS = torch.tensor([[5, 60, 7, 8, 9], [11, 12, 13, 14, 15]])
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "pissa": {"trains": "pissa"},
    "nf4": {"quantization": "nf4", "double_quantization": True},
    "nf4 dora": {"quantization": "nf4", "dora": True},
    "int8": {"quantization": "int8"},
    "head and embedding": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
}


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


def disturb(model: Any) -> None:
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(weight, std=0.1)
        if "magnitude" in name:
            weight.data *= 1 + 0.3 * torch.rand_like(weight)


def adapted(folder: Path, kind: str, precision: Any) -> Any:
    values: dict[str, Any] = {"name": "lora", "rank": 4, "alpha": 12, "dropout": 0.05} | KINDS[kind]
    method = MethodConfig(**values)
    model: Any = load_model(folder, method, Device("cpu", "CPU", precision), 0).model
    if method.trains == "pissa":
        model_method(method).begin(model, 0, None)
    disturb(model)
    return model.eval()


def base_of(folder: Path, dtype: torch.dtype) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_peft_in_full_precision(kind: str, micro_model: Path) -> None:
    model = adapted(micro_model, kind, "fp32")
    expected = logits(model)
    assert fold_adapters(model, torch.float32) > 0
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "dora", "nf4", "head and embedding"])
def test_half_precision_is_as_exact_as_peft(kind: str, micro_model: Path) -> None:
    model = adapted(micro_model, kind, "bf16")
    of_peft = logits(model)
    exact = logits(adapted(micro_model, kind, "bf16").float()) if kind != "nf4" else of_peft.float()
    fold_adapters(model, torch.bfloat16)
    found = logits(model)
    assert found.dtype == of_peft.dtype == torch.bfloat16
    allowed = 1.3 * (of_peft - exact).norm() if kind != "nf4" else 0.02 * exact.norm()
    assert (found - exact).norm() <= allowed


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.calls.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_layer_adds_one_product_and_shares_the_thin_ones(micro_model: Path) -> None:
    model = adapted(micro_model, "lora", "bf16")
    bare: Any = base_of(micro_model, torch.bfloat16)
    with Counting() as without:
        logits(bare)
    fold_adapters(model, torch.bfloat16)
    with Counting() as counted:
        logits(model)
    layers = bare.config.num_hidden_layers
    # Seven adapters added, four thin products: of q, k and v; of o; of gate and up; of down.
    assert counted.calls.count("addmm_") == 7 * layers
    assert len(counted.calls) - len(without.calls) == (7 + 4) * layers


def test_folded_adapters_are_saved_as_adapters_that_mean_the_same(micro_model: Path, tmp_path: Path) -> None:
    model = adapted(micro_model, "rslora", "fp32")
    expected = logits(model)
    fold_adapters(model, torch.float32)
    save_adapters(model, tmp_path)
    reloaded: Any = PeftModel.from_pretrained(base_of(micro_model, torch.float32), str(tmp_path))
    torch.testing.assert_close(logits(reloaded.eval()), expected, rtol=1e-4, atol=1e-5)


def test_switched_off_or_taken_away_the_base_is_left(micro_model: Path) -> None:
    base = logits(base_of(micro_model, torch.float32))
    model = adapted(micro_model, "lora", "fp32")
    fold_adapters(model, torch.float32)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), base)
    torch.testing.assert_close(logits(model.unload()), base)


def test_layers_of_one_input_may_be_called_with_others(micro_model: Path) -> None:
    model = adapted(micro_model, "lora", "fp32")
    attention = model.get_base_model().model.layers[0].self_attn
    width = attention.q_proj.in_features
    x, other = torch.randn(2, 3, width), torch.randn(2, 3, width)
    with torch.no_grad():
        expected = attention.q_proj(x), attention.k_proj(other), attention.v_proj(x), attention.v_proj(other)
        fold_adapters(model, torch.float32)
        found = attention.q_proj(x), attention.k_proj(other), attention.v_proj(x), attention.v_proj(other)
    torch.testing.assert_close(found, expected)


def test_other_precisions_than_the_models_are_computed_by_peft(micro_model: Path) -> None:
    model = adapted(micro_model, "lora", "bf16")
    fold_adapters(model, torch.bfloat16)
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    x = torch.randn(2, layer.in_features)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    layer.base_layer.float()
    with torch.no_grad():
        assert layer(x).dtype == torch.float32


def test_layers_of_blocks_in_fp32_stay_in_fp32(micro_model: Path) -> None:
    device = Device("cpu", "CPU", "bf16")
    model = adapted(micro_model, "lora", "bf16")
    compute_in_fp32(model, ["model.layers.1.mlp"], torch.bfloat16)
    expected = logits(model)
    answering_form(model, device)
    layers = model.get_base_model().model.layers
    kinds = [{weight.dtype for weight in layer.mlp.parameters()} for layer in layers]
    assert kinds == [{torch.bfloat16}, {torch.float32}]
    with Counting() as counted:
        found = logits(model)
    assert counted.calls.count("addmm_") == 7 * len(layers)
    assert (found - expected).norm() <= 0.03 * expected.norm()


def test_transposed_matrices_and_scales_of_single_layers_are_folded() -> None:
    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, lora_bias=True,
        rank_pattern={"c_fc": 2}, alpha_pattern={"c_attn": 3}, task_type="CAUSAL_LM",
    )  # fmt: skip
    model: Any = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.eval()
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        fold_adapters(model, torch.float32)
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-5)
    assert all(scale == 1 for part in model.modules() if has_adapter(part) for scale in part.scaling.values())
