"""Liger's kernels: refused where they cannot be had, gone behind the block, and the same numbers as torch's operators.

The kernels are Triton's, which needs a GPU; on the CPU its interpreter runs them (`tests.compat.liger_trial`).
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import integrations
from transformers.models.qwen2 import modeling_qwen2

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.model import kernels as kernels_module
from medqa_finetune.model.kernels import check_kernels, training_kernels
from medqa_finetune.model.load import Device, load_model
from medqa_finetune.model.requirements import distinct_needs
from tests.commands import ROOT
from tests.config.builders import VALID, changed
from tests.faulty import only_fault

needs_liger = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("liger_kernel", "triton")),
    reason="liger-kernel and triton are not installed",
)
LORA = MethodConfig(name="lora", dropout=0.0)


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package in Liger's place that knows Llama, and does to a model what Liger does: binds, and replaces names."""

    def apply(model: Any, options: dict[str, bool]) -> None:
        assert options == {"cross_entropy": False, "fused_linear_cross_entropy": False}
        if model.config.model_type == "qwen2":
            monkeypatch.setattr(modeling_qwen2, "apply_rotary_pos_emb", None)
            for layer in model.model.layers:
                layer.mlp.forward = lambda states: states * 0
                layer.input_layernorm.variance_epsilon = 1.0

    module: Any = ModuleType("liger_kernel.transformers.monkey_patch")
    module.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}
    monkeypatch.setattr(integrations, "apply_liger_kernel", apply)
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(kernels_module, "find_spec", lambda package: SimpleNamespace())
    return module


def test_torch_needs_nothing(tmp_path: Path) -> None:
    check_kernels("torch", tmp_path / "nowhere", "cpu")


def test_what_is_not_trained_needs_no_kernels(micro_model: Path) -> None:
    cells = [changed(VALID, train__kernels="liger", method__trains=trains) for trains in ("adapter", "nothing")]
    needs = distinct_needs(cells, [{}, {}], {VALID.model: micro_model})
    assert [need.kernels for need in needs] == ["liger", "torch"]


def test_without_a_gpu_they_are_refused(micro_model: Path) -> None:
    with pytest.raises(ModelError) as caught:
        check_kernels("liger", micro_model, "cpu")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, fault.allowed) == ("needs-gpu", "train.kernels", "liger", ("torch",))


@pytest.mark.parametrize("package", ["liger_kernel", "triton"])
def test_a_package_that_is_missing_is_named(package: str, micro_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_module, "find_spec", lambda name: None if name == package else SimpleNamespace())
    with pytest.raises(ModelError) as caught:
        check_kernels("liger", micro_model, "cuda")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.allowed) == ("not-installed", "train.kernels", ("torch",))
    assert package in fault.problem
    assert "pip install 'medqa_finetune[liger]'" in fault.hint


def test_a_family_without_kernels_is_refused(micro_model: Path, liger: Any) -> None:
    with pytest.raises(ModelError) as caught:
        check_kernels("liger", micro_model, "cuda")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.allowed) == ("not-supported", "train.kernels", ("torch",))
    assert "qwen2" in fault.problem
    assert "train.kernels=torch" in fault.hint
    liger.MODEL_TYPE_TO_APPLY_LIGER_FN["qwen2"] = None
    check_kernels("liger", micro_model, "cuda")


def test_a_model_that_nothing_was_done_to_is_refused(liger: Any) -> None:
    model = SimpleNamespace(config=SimpleNamespace(model_type="other"), modules=list)
    with pytest.raises(ModelError) as caught, training_kernels("liger", model):
        pass
    assert only_fault(caught).code == "not-supported"
    assert "other" in only_fault(caught).problem


def state_of(model: Any) -> list[dict[str, Any]]:
    return [dict(vars(modeling_qwen2)), *(dict(vars(part)) for part in model.modules())]


@pytest.mark.usefixtures("liger")
def test_behind_the_block_the_model_is_as_before(micro_model: Path) -> None:
    model: Any = load_model(micro_model, LORA, Device("cpu", "CPU", "fp32"), 0).model
    norm = model.train().get_base_model().model.layers[0].input_layernorm
    epsilon = norm.variance_epsilon
    before = state_of(model)
    with training_kernels("liger", model):
        assert modeling_qwen2.apply_rotary_pos_emb is None
        assert norm.variance_epsilon == 1.0
        model.eval()  # what others change in the block stays
    assert norm.variance_epsilon == epsilon
    assert not norm.training
    model.train()
    assert state_of(model) == before
    assert torch.isfinite(model(input_ids=torch.tensor([[1, 2]])).logits).all()


@pytest.mark.slow
@needs_liger
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_losses_and_gradients_on_packs_are_those_of_torch(family: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.compat.liger_trial", family],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # Two norms and an MLP in each of two layers, the last norm, adapters or not.
    assert found["replaced"] == 7
    for method in ("lora", "full"):
        assert found[method]["loss"] <= 1e-6
        assert found[method]["gradients"] <= 1e-5
    assert found["left"] == []
