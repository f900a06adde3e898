"""What is tried of a model before a run starts, without its weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.model import probe
from medqa_finetune.model.probe import build_skeleton, check_method, check_model
from tests.config.builders import VALID, changed

SHIPPED = Path(probe.__file__).parent / "tiny"


def refusal(*arguments: Any, of: Callable[..., object]) -> str:
    with pytest.raises(ModelError) as caught:
        of(*arguments)
    return str(caught.value)


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
    message = refusal(folder, of=check_model)
    assert "model_type=theirs" in message
    assert "trust_remote_code" not in message
    assert not ran.exists()


def test_remote_code_is_given_as_the_reason(folder: Path) -> None:
    set_json(folder / "config.json", auto_map={"AutoConfig": "theirs.Theirs"}, model_type="theirs")
    assert "code that comes with weights is never run" in refusal(folder, of=check_model)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"model_type": "theirs"}, "model_type=theirs by itself"),
        ({"model_type": "t5"}, "AutoModelForCausalLM"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 0}, "zero"),
    ],
    ids=str,
)
def test_a_model_that_transformers_cannot_build_is_refused(settings: dict[str, Any], part: str, folder: Path) -> None:
    set_json(folder / "config.json", **settings)
    message = refusal(folder, of=check_model)
    assert part in message
    assert message.startswith(f"{folder}: transformers cannot build")


def test_a_tokenizer_that_training_would_refuse_is_refused_now(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert "has no chat template" in refusal(folder, of=check_model)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    set_json(folder / "config.json", vocab_size=299)
    assert "the tokenizer has 300 tokens, the model's embedding 299 rows" in refusal(folder, of=check_model)


def test_modules_that_the_model_has_not_are_refused(micro_model: Path) -> None:
    method = MethodConfig(name="lora", target_modules=["q_proj", "vproj"])
    assert "no module is called vproj" in refusal(micro_model, method, of=check_method)


@pytest.mark.parametrize("key", ["optimizer", "optimizer_without_cuda"])
def test_an_optimizer_that_is_none_is_refused_with_similar_ones(key: str, micro_model: Path) -> None:
    method = changed(VALID, **{f"method__{key}": "adamw_torhc"}).method
    message = refusal(micro_model, method, of=check_method)
    assert f"method.{key}=adamw_torhc" in message
    assert "adamw_torch" in message.partition("it has")[2]
