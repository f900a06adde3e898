"""Every cell answers in one numeric form: behind training, after a restart, untuned, in a chat."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.compat.transformers import is_kept_in_fp32
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.answering import answering_model
from medqa_finetune.model.load import Device, LoadedModel, load_model
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.stopping import StopRequest
from medqa_finetune.training.checkpoints import Checkpoints
from medqa_finetune.training.fit import Keeping, TrainingSets, fit
from tests.training.trial import PAIRS, make_config, one_thread

PROMPTS = [[5, 60, 7, 8], [9, 10, 11, 12, 13, 14], [20]]
PACKAGE = Path(__file__).parents[2] / "medqa_finetune"
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"dropout": 0.05},
    "qlora": {"name": "qlora", "quantization": "nf4", "double_quantization": True},
    "dora": {"name": "dora", "dora": True},
    "full": {"name": "full", "trains": "all"},
}


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


def loaded_as(folder: Path, method: MethodConfig, precision: Any) -> LoadedModel:
    return load_model(folder, method, Device("cpu", "CPU", precision), seed=0)


def answers(loaded: LoadedModel, method: MethodConfig) -> tuple[list[list[int]], torch.Tensor, set[torch.dtype]]:
    """Return predictions, logits, and the precisions of the weights of a model in the form that answers."""
    model: Any = answering_model(loaded.model, method, loaded.device)
    assert "forward" not in vars(model)  # accelerate would leave autocast there
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPTS[0]])).logits
    found = decode_greedily(model, PROMPTS, Ending((), 0, 8))
    return found, logits, {weight.dtype for weight in model.parameters()} - {torch.uint8}


@pytest.mark.parametrize(
    ("name", "precision", "fused"),
    [("lora", "fp32", True), ("lora", "fp32", False), ("lora", "bf16", True), ("lora", "bf16", False),
     ("qlora", "fp32", True), ("qlora", "bf16", False), ("full", "bf16", False)],
)  # fmt: skip
def test_a_restarted_cell_answers_as_one_that_has_just_trained(
    name: str, precision: str, fused: bool, micro_model: Path, tmp_path: Path
) -> None:
    train: dict[str, Any] = {"max_steps": 2, "validations": 1, "fused_adapters": fused and name != "full"}
    config, run = make_config(METHODS[name], **train), RunDir(tmp_path)
    loaded = loaded_as(micro_model, config.method, precision)
    encoded = list(Encoder(loaded.tokenizer, 64).encode(PAIRS[:16]))
    sets = TrainingSets(EncodedSet(encoded), EncodedSet(encoded[:2]))
    fit(loaded, sets, config, run, Keeping(Checkpoints(run.checkpoints_path, "trial"), StopRequest()))
    behind, said, kinds = answers(loaded, config.method)

    restarted = loaded_as(micro_model, config.method, precision)
    model_method(config.method).restore(restarted.model, run.adapter_path)
    after, said_after, kinds_after = answers(restarted, config.method)
    assert (behind, kinds) == (after, kinds_after)
    assert torch.equal(said, said_after)

    none = MethodConfig(name="none", trains="nothing")
    _, said_by_base, kinds_of_base = answers(loaded_as(micro_model, none, precision), none)
    assert kinds == kinds_of_base
    assert said.dtype == said_by_base.dtype
    assert not torch.equal(said, said_by_base)


def test_only_one_place_prepares_a_model_to_answer() -> None:
    callers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"(?<!super\(\))\.for_inference\(|fold_adapters\(", path.read_text(encoding="utf-8"))
    }
    assert callers == {"model/answering.py", "methods/shared/folded_adapters.py"}


@pytest.mark.parametrize(
    ("kept", "strict", "dtype", "expected"),
    [
        (["router"], [], torch.bfloat16, False),
        (["router"], [], torch.float16, True),
        ([], ["router.bias"], torch.bfloat16, True),
        ([], ["*.rou*bias"], torch.bfloat16, True),
        ([], ["gate"], torch.float16, False),
    ],
)
def test_what_an_architecture_keeps_in_fp32_is_known(
    kept: list[str], strict: list[str], dtype: torch.dtype, expected: bool
) -> None:
    class Model:
        _keep_in_fp32_modules, _keep_in_fp32_modules_strict = kept, strict

    assert is_kept_in_fp32(Model(), "model.layers.0.router.bias", dtype) == expected
