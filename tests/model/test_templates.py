"""Chat templates for models that have none."""

from pathlib import Path

import pytest

from medqa_finetune.config.schema import ModelConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.errors import ModelError
from medqa_finetune.model.load import load_tokenizer
from medqa_finetune.model.locate import fingerprint_model, locate_model
from medqa_finetune.model.templates import read_template, template_names
from scripts.small_models import write_micro_model
from tests.faulty import only_fault


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_micro_model(tmp_path_factory.mktemp("phi") / "phi", "phi")


@pytest.mark.parametrize("name", template_names())
def test_every_template_of_ours_trains_an_answer_with_its_end(name: str, phi: Path) -> None:
    tokenizer = load_tokenizer(phi, name)
    encoder = Encoder(tokenizer, 256)
    (item,) = encoder.encode([Example("1", "发烧怎么办？", "多休息。")])
    assert encoder.end_ids == [tokenizer.eos_token_id]
    assert tokenizer.decode(item.input_ids[item.answer_start :]) == "多休息。<|endoftext|>"
    assert item.input_ids[: item.answer_start] == encoder.dialogue(None, (), "发烧怎么办？")


def test_instruct_is_the_form_that_phi_2_was_made_with(phi: Path) -> None:
    """`Instruct: <prompt>\\nOutput:`, as its model card has it; the answer on the next line."""
    messages = [
        {"role": "system", "content": "You are brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Why?"},
    ]  # fmt: skip
    tokenizer = load_tokenizer(phi, "instruct")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "You are brief.\nInstruct: Hi\nOutput:\nHello<|endoftext|>\nInstruct: Why?\nOutput:\n"


def test_a_file_may_be_given_and_is_kept_with_the_tokenizer(phi: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}")
    load_tokenizer(phi, str(tmp_path / "mine.jinja")).save_pretrained(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.chat_template == (tmp_path / "mine.jinja").read_text()


def test_without_a_template_it_is_said_what_may_be_given(phi: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(phi)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("template-missing", "model.chat_template", str(phi))
    assert "instruct" in fault.allowed


def test_a_template_that_is_not_there_is_refused_before_anything_is_loaded(phi: Path) -> None:
    with pytest.raises(ModelError) as caught:
        locate_model(ModelConfig("phi", str(phi), chat_template="nix"))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("file-missing", "model.chat_template", "nix")
    assert "instruct" in fault.allowed


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"\xff\xfe")
    for path, code in ((tmp_path / "t", "not-utf8"), (tmp_path, "not-readable")):
        with pytest.raises(ModelError) as caught:
            read_template(str(path))
        assert (only_fault(caught).code, only_fault(caught).got) == (code, str(path))


def test_another_template_is_another_model(phi: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(str(read_template("instruct")))
    plain, ours = fingerprint_model(phi), fingerprint_model(phi, "instruct")
    assert plain != ours
    assert fingerprint_model(phi, str(tmp_path / "mine.jinja")) == ours
