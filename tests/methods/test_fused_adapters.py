"""Fused adapters against peft's own layers: outputs, gradients, dropout, and what is left behind."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from medqa_finetune.compat.peft import linear_adapters
from medqa_finetune.methods.shared.drop_out import draw_dropped, drop_
from medqa_finetune.methods.shared.fused_adapters import fused_adapters


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Block(torch.nn.Module):
    """Layers that share an input, some of them with a bias, and one that does not."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.q_proj = torch.nn.Linear(width, width)
        self.k_proj = torch.nn.Linear(width, 8)
        self.v_proj = torch.nn.Linear(width, 8, bias=False)
        self.o_proj = torch.nn.Linear(8, width, bias=False)
        self.gate_proj = torch.nn.Linear(width, 32, bias=False)
        self.up_proj = torch.nn.Linear(width, 32, bias=False)
        self.down_proj = torch.nn.Linear(32, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.o_proj(self.q_proj(x)[..., :8] * self.k_proj(x).tanh() + self.v_proj(x))
        result: torch.Tensor = x + self.down_proj(torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return result


NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(dropout: float = 0.0, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=NAMES, **settings)
    block: Any = Block()
    model: Any = get_peft_model(block, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model.train()


def passed(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The output of a model, and the gradients of its input and its weights."""
    x = x.clone().requires_grad_()
    output = model(x)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return output, list(torch.autograd.grad(output.float().square().sum(), [x, *weights]))


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"v_proj": 3}}]
)
def test_outputs_and_gradients_are_those_of_peft(settings: dict[str, Any]) -> None:
    model, x = adapted(**settings), torch.randn(2, 5, 24)
    expected, wanted = passed(model, x)
    with fused_adapters(model, enabled=True) as count:
        found, gradients = passed(model, x)
    assert count == len(NAMES)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, wanted, rtol=1e-5, atol=1e-4)


def test_bf16_autocast_is_as_exact_as_peft() -> None:
    model, x = adapted(), torch.randn(2, 5, 24)
    exact, _ = passed(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        of_peft, wanted = passed(model, x)
        with fused_adapters(model, enabled=True):
            found, gradients = passed(model, x)
    assert found.dtype == of_peft.dtype
    assert (found - exact).abs().max() <= 1.5 * (of_peft - exact).abs().max()
    assert all(got.dtype == torch.float32 for got in gradients)
    for got, other in zip(gradients, wanted, strict=True):
        assert (got - other).norm() <= 0.03 * other.norm()


def test_layers_of_one_input_share_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    from medqa_finetune.methods.shared import fused_adapters as module

    calls: list[int] = []
    compute = module._compute

    def counting(x: torch.Tensor, group: Any) -> Any:
        calls.append(len(group))
        return compute(x, group)

    monkeypatch.setattr(module, "_compute", counting)
    model = adapted()
    with fused_adapters(model, enabled=True):
        model(torch.randn(1, 3, 24))
    assert calls == [3, 1, 2, 1]


def test_another_input_is_computed_for_itself() -> None:
    model, x, other = adapted(), torch.randn(3, 24), torch.randn(3, 24)
    block = model.base_model.model
    expected = block.q_proj(x), block.k_proj(other), block.v_proj(x)
    with fused_adapters(model, enabled=True):
        found = block.q_proj(x), block.k_proj(other), block.v_proj(x)
    torch.testing.assert_close(found, expected)


def test_dora_and_disabled_adapters_compute_as_in_peft() -> None:
    x = torch.randn(2, 24)
    with fused_adapters(adapted(use_dora=True), enabled=True) as count:
        assert count == 0
    model = adapted()
    with model.disable_adapter():
        expected = model(x)
    with fused_adapters(model, enabled=True), model.disable_adapter():
        torch.testing.assert_close(model(x), expected)


def test_forward_of_peft_returns_after_an_exception() -> None:
    model = adapted()
    with pytest.raises(KeyError), fused_adapters(model, enabled=True):
        raise KeyError
    assert not any("forward" in each.layer.__dict__ for each in linear_adapters(model))


def test_four_bit_base_gives_what_peft_gives() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear4bit(64, 64, compute_dtype=torch.float32, quant_type="nf4")
    base: Any = torch.nn.Sequential(layer.to("cpu"))
    torch.manual_seed(0)
    model: Any = get_peft_model(base, LoraConfig(r=4, target_modules=["0"], init_lora_weights=False))
    x = torch.randn(3, 64)
    expected, wanted = passed(model.train(), x)
    with fused_adapters(model, enabled=True) as count:
        found, gradients = passed(model, x)
    assert count == 1
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5])
def test_dropped_elements_are_independent_and_as_many(probability: float) -> None:
    torch.manual_seed(0)
    size = 2**20
    kept = drop_(torch.ones(size), draw_dropped(size, probability, torch.device("cpu")))
    dropped = 1 - kept
    deviation = (probability * (1 - probability) / size) ** 0.5
    assert abs(dropped.mean().item() - probability) < 5 * deviation
    assert abs((dropped[1:] * dropped[:-1]).mean().item() - probability**2) < 5 * probability * size**-0.5
    places = dropped[: 1000 * 1024].view(1000, 1024).sum(0)
    wanted = 1000 * probability * (1 - probability)
    assert abs(places.var().item() / wanted - 1) < 0.25


def test_dropout_has_the_gradient_of_its_own_mask() -> None:
    model, x = adapted(0.1).double(), torch.randn(4, 24, dtype=torch.float64)

    def output(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        found: torch.Tensor = model(x)
        return found

    with fused_adapters(model, enabled=True):
        assert not torch.equal(output(x), model(x))
        assert torch.autograd.gradcheck(output, x.clone().requires_grad_())


def test_mean_over_masks_is_the_output_without_dropout() -> None:
    model = adapted(0.1)
    layer, x = model.base_model.model.o_proj, torch.randn(1, 8)
    with fused_adapters(model, enabled=True), torch.no_grad():
        many = layer(x.expand(100_000, 8)).mean(0)
        alone = layer.eval()(x)[0]
    torch.testing.assert_close(many, alone, atol=0.01, rtol=0)


def test_checkpointing_draws_the_same_mask_again() -> None:
    from torch.utils.checkpoint import checkpoint

    model, x = adapted(0.1), torch.randn(2, 5, 24)
    with fused_adapters(model, enabled=True):
        torch.manual_seed(5)
        _, wanted = passed(model, x)
        for reentrant in (False, True):
            torch.manual_seed(5)
            again = copy.copy(model)
            object.__setattr__(again, "forward", lambda x, kind=reentrant: checkpoint(model, x, use_reentrant=kind))
            x_in = x.clone().requires_grad_()
            again.forward(x_in).square().sum().backward()
            torch.testing.assert_close(x_in.grad, wanted[0])
            model.zero_grad()


def test_saved_adapter_loads_in_plain_peft(tmp_path: Path) -> None:
    model, x = adapted(), torch.randn(2, 24)
    with fused_adapters(model, enabled=True):
        model.save_pretrained(tmp_path)
        expected = model(x)
    torch.manual_seed(0)
    block: Any = Block()
    loaded = PeftModel.from_pretrained(block, tmp_path)
    torch.testing.assert_close(loaded(x), expected)
