import hashlib
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import medqa_finetune

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_demo_model.py"
SHIPPED = Path(medqa_finetune.__file__).parent / "model" / "tiny"
MESSAGES = [{"role": "user", "content": "感冒了怎么办？"}]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(SHIPPED)


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(script: dict[str, Any], tmp_path: Path) -> None:
    deterministic = torch.are_deterministic_algorithms_enabled()
    options = ["--steps", "5", "--seed", "3", "--out"]
    try:
        for name in ("first", "second"):
            script["main"]([*options, str(tmp_path / name)])
    finally:
        torch.use_deterministic_algorithms(deterministic)
    for file in ("model.safetensors", "tokenizer.json", "config.json", "build.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_small_talk_is_varied_and_not_the_corpus(script: dict[str, Any]) -> None:
    from medqa_finetune.data.embedded import embedded_rows

    exchanges = list(script["chatter"]())
    rows = list(embedded_rows())
    assert len(set(exchanges)) == len(exchanges) >= 300
    assert not {question for question, _ in exchanges} & {row["question"] for row in rows}
    assert not {answer for _, answer in exchanges} & {row["answer"] for row in rows}


def test_shipped_folder_is_small_and_complete() -> None:
    names = {path.name for path in SHIPPED.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {"chat_template.jinja", "generation_config.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 10_000_000
    assert len((SHIPPED / "README.md").read_text(encoding="utf-8").splitlines()) == 5
    assert json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))["dtype"] == "float16"
    recorded = json.loads((SHIPPED / "build.json").read_text(encoding="utf-8"))["weights_sha256"]
    assert hashlib.sha256((SHIPPED / "model.safetensors").read_bytes()).hexdigest() == recorded


def test_shipped_model_was_built_from_this_corpus() -> None:
    from medqa_finetune.data.embedded import embedded_sha256

    recorded = json.loads((SHIPPED / "build.json").read_text(encoding="utf-8"))["corpus_sha256"]
    assert recorded == embedded_sha256(), "rebuild it: python scripts/build_demo_model.py"


def test_shipped_tokenizer_renders_chatml(tokenizer: Any) -> None:
    rendered = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|im_start|>user\n感冒了怎么办？<|im_end|>\n<|im_start|>assistant\n"
    answered = [*MESSAGES, {"role": "assistant", "content": "多喝水。"}]
    rendered = tokenizer.apply_chat_template(answered, tokenize=False)
    assert rendered.endswith("<|im_start|>assistant\n多喝水。<|im_end|>\n")
    assert "system" not in rendered


def test_shipped_tokenizer_has_distinct_special_tokens_and_loses_nothing(tokenizer: Any) -> None:
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert len(tokenizer.encode("<|im_start|>")) == 1
    text = "HbA1c 6.5%，龘 🩺\n第二行。"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_shipped_model_loads_and_ends_its_answers(tokenizer: Any) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32)
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    messages = [{"role": "user", "content": "你是谁？"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(encoded["input_ids"], attention_mask=encoded["attention_mask"], max_new_tokens=64)
    assert output[0, -1] == tokenizer.eos_token_id
