"""What is tried of a model before a run starts, without its weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.architecture.size import read_size
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model import probe
from medqa_finetune.model.load import Device, load_model
from medqa_finetune.model.probe import (
    architecture_size,
    check_method,
    check_model,
    write_random_model,
)
from medqa_finetune.model.pruned import build_skeleton
from tests.config.builders import VALID, changed
from tests.faulty import only_fault

SHIPPED = Path(probe.__file__).parent / "tiny"


def refusal(*arguments: Any, of: Callable[..., object]) -> Fault:
    with pytest.raises(ModelError) as caught:
        of(*arguments)
    return only_fault(caught)


@pytest.fixture
def folder(tmp_path: Path, micro_model: Path) -> Path:
    return Path(shutil.copytree(micro_model, tmp_path / "model"))


def set_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_the_model_of_the_tests_and_the_one_that_ships_pass(micro_model: Path) -> None:
    for folder in (micro_model, SHIPPED):
        tokenizer = check_model(folder)
        assert tokenizer.chat_template
        for trains in ("adapter", "all", "nothing"):
            check_method(folder, MethodConfig(name="m", trains=trains))


def test_the_tokenizer_of_the_default_model_passes(shared: Path, folder: Path) -> None:
    for path in (shared / "qwen25_tokenizer").iterdir():
        shutil.copy(path, folder)
    set_json(folder / "config.json", vocab_size=151936)
    assert len(check_model(folder)) == 151665


def test_a_model_without_weights_takes_no_memory(micro_model: Path) -> None:
    assert {weight.device.type for weight in build_skeleton(micro_model).parameters()} == {"meta"}


@pytest.mark.parametrize("map_in", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_never_run(map_in: str, folder: Path) -> None:
    ran = folder / "ran"
    (folder / "theirs.py").write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\n", encoding="utf-8")
    kinds = ("AutoConfig", "AutoModelForCausalLM") if map_in == "config.json" else ("AutoTokenizer",)
    set_json(folder / map_in, auto_map=dict.fromkeys(kinds, "theirs.Theirs"))
    set_json(folder / "config.json", model_type="theirs")
    fault = refusal(folder, of=check_model)
    assert (fault.key, fault.got) == ("model_type", "theirs")
    assert "trust_remote_code" not in fault.line()
    assert not ran.exists()


def test_remote_code_is_given_as_the_reason(folder: Path) -> None:
    set_json(folder / "config.json", auto_map={"AutoConfig": "theirs.Theirs"}, model_type="theirs")
    fault = refusal(folder, of=check_model)
    assert fault.code == "unknown-architecture"
    assert "code" in fault.problem


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_type": "theirs"}, "theirs"),
        ({"model_type": "t5"}, "AutoModelForCausalLM"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 0}, "zero"),
    ],
    ids=str,
)
def test_a_model_that_transformers_cannot_build_is_refused(settings: dict[str, Any], reason: str, folder: Path) -> None:
    set_json(folder / "config.json", **settings)
    fault = refusal(folder, of=check_model)
    assert (fault.code, fault.file) == ("unknown-architecture", str(folder / "config.json"))
    assert fault.got == settings.get("model_type", "qwen2")
    assert reason in fault.problem  # in transformers' words


def test_a_model_that_cannot_answer_token_by_token_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba", "vocab_size": 512, "num_hidden_layers": 1}))
    fault = refusal(folder, of=check_model)
    assert (fault.code, fault.file) == ("no-cache", str(folder))
    assert "MambaForCausalLM" in fault.problem


def test_a_tokenizer_that_training_would_refuse_is_refused_now(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert refusal(folder, of=check_model).code == "template-missing"


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    set_json(folder / "config.json", vocab_size=299)
    assert refusal(folder, of=check_model).code == "vocabulary-mismatch"


def test_modules_that_the_model_has_not_are_refused(micro_model: Path) -> None:
    method = MethodConfig(name="lora", target_modules=["q_proj", "vproj"])
    fault = refusal(micro_model, method, of=check_method)
    assert (fault.code, fault.got) == ("no-such-module", ["q_proj", "vproj"])
    assert "vproj" in fault.problem


@pytest.mark.parametrize("key", ["optimizer", "optimizer_without_cuda"])
def test_an_optimizer_that_is_none_is_refused_with_similar_ones(key: str, micro_model: Path) -> None:
    method = changed(VALID, **{f"method__{key}": "adamw_torhc"}).method
    fault = refusal(micro_model, method, of=check_method)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", f"method.{key}", "adamw_torhc")
    assert "adamw_torch" in fault.hint
    other = changed(VALID, **{f"method__{key}": "?"}).method
    assert "adamw_torch" in refusal(micro_model, other, of=check_method).allowed


def test_a_size_by_architecture_is_the_size_by_weights(micro_model: Path) -> None:
    known = read_size(micro_model)
    found = architecture_size(micro_model)
    assert known is not None
    assert found is not None
    assert replace(found, other_bytes=0) == replace(known, other_bytes=0)


def test_the_size_of_qwen_3b_by_its_config_alone(tmp_path: Path) -> None:
    settings = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 2048, "intermediate_size": 11008,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936,
        "tie_word_embeddings": True, "max_position_embeddings": 32768,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(settings))
    size = architecture_size(tmp_path)
    assert size is not None
    assert size.parameters == 3_085_938_688
    assert model_method(MethodConfig(name="lora", rank=16)).trainable_parameters(size) == 29_933_568
    assert (size.layers, set(size.attention_widths), set(size.key_widths)) == (36, {2048}, {256})


def test_random_weights_of_an_architecture_load_as_a_model(micro_model: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(micro_model, tmp_path / "bare"))
    (bare / "model.safetensors").unlink()
    write_random_model(bare, tmp_path / "made", "bf16")
    loaded = load_model(tmp_path / "made", MethodConfig(name="lora"), Device("cpu", "CPU", "fp32"), seed=0)
    assert loaded.size == read_size(tmp_path / "made")
    assert loaded.parameters.total == loaded.size.parameters  # type: ignore[union-attr]
