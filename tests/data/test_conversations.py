"""Dialogues: who said what, and every way in which a conversation can be broken."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_finetune.config.groups import load_group
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import read_examples
from medqa_finetune.data.examples import Example
from medqa_finetune.data.messages import SPEAKERS, Broken, MessageReader
from medqa_finetune.data.rows import Ledger
from medqa_finetune.errors import DataError
from scripts.reader_checks import check_reading
from tests.data.files import GOOD, corpus_of, read, rejected, written
from tests.data.test_any_bytes import modestly, values
from tests.faulty import only_fault

ASKED, SAID = {"from": "human", "value": "头痛怎么办？"}, {"from": "gpt", "value": "多休息。"}
AGAIN, SAID_AGAIN = {"role": "user", "content": "还是痛。"}, {"role": "assistant", "content": "去看医生。"}
RULE = {"role": "system", "content": "你是医生。"}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def group(name: str, path: Path, *overrides: str) -> list[Example]:
    corpus = load_group("corpus", name, CorpusConfig, [f"path={path}", *overrides])
    return list(read_examples(corpus, Ledger()))


@pytest.mark.parametrize(("name", "column"), [("messages", "messages"), ("sharegpt", "conversations")])
def test_null_leaves_system_prompts_out_and_counts_them(tmp_path: Path, name: str, column: str) -> None:
    path = written(tmp_path / "a.jsonl", lines({column: [RULE, ASKED, SAID]}, {column: [ASKED, SAID_AGAIN]}))
    assert [example.system for example in group(name, path)] == ["你是医生。", None]
    ledger = Ledger()
    without = load_group("corpus", name, CorpusConfig, [f"path={path}", "system=null"])
    assert [example.system for example in read_examples(without, ledger)] == [None, None]
    assert ledger.counts["system_prompts_left_out"] == 1


def test_a_conversation_is_its_last_turn_with_those_before_it() -> None:
    found = MessageReader().read([RULE, ASKED, SAID, AGAIN, SAID_AGAIN])
    assert found.system == "你是医生。"
    assert found.turns == (("头痛怎么办？", "多休息。"), ("还是痛。", "去看医生。"))


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "messages_not_a_list"),
        ("问", "messages_not_a_list"),
        ([], "empty_conversation"),
        ([RULE], "empty_conversation"),
        ([ASKED, ASKED, SAID], "one_speaks_twice_running"),
        ([ASKED, SAID, SAID], "one_speaks_twice_running"),
        ([ASKED], "user_has_the_last_word"),
        ([ASKED, SAID, ASKED], "user_has_the_last_word"),
        ([SAID, ASKED, SAID], "user_does_not_begin"),
        ([RULE, RULE, ASKED, SAID], "system_prompt_not_first"),
        ([ASKED, SAID, RULE, ASKED, SAID], "system_prompt_not_first"),
        ([ASKED, {"from": "observation", "value": "{}"}, SAID], "unknown_speaker"),
        ([{"from": 1, "value": "问"}, SAID], "unknown_speaker"),
        ([ASKED, {"role": "assistant", "content": None}], "message_not_text"),
        ([ASKED, {"from": "gpt"}], "not_a_message"),
        ([ASKED, "多休息。"], "not_a_message"),
    ],
)
def test_a_broken_conversation_says_what_is_wrong(messages: Any, reason: str) -> None:
    with pytest.raises(Broken) as caught:
        MessageReader().read(messages)
    assert caught.value.reason == reason


@given(
    turns=st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=5),
    system=st.none() | st.text(),
    names=st.sampled_from([("user", "assistant"), ("human", "gpt"), (" Human", "GPT")]),
    openai=st.booleans(),
)
def test_any_orderly_conversation_comes_back(turns: Any, system: str | None, names: Any, openai: bool) -> None:
    speaker, text = ("role", "content") if openai else ("from", "value")
    said = [] if system is None else [{speaker: "system", text: system}]
    for turn in turns:
        said += [{speaker: name, text: words} for name, words in zip(names, turn, strict=True)]
    found = MessageReader().read(said)
    assert (found.system, list(found.turns)) == (system, turns)


messages = st.lists(
    st.fixed_dictionaries(
        {
            "from": st.sampled_from([*SPEAKERS, "tool"]),
            "value": st.text(max_size=3) | st.none() | st.just("好<|im_end|>"),
        }
    )
    | values,
    max_size=6,
)


@given(rows=st.lists(st.fixed_dictionaries({"c": messages | values, "system": values}), max_size=6))
@modestly
def test_any_conversation_is_clean_pairs_or_rejects(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = written(tmp_path / "a.jsonl", lines(*rows))
    check_reading(path, messages="c", system="system", max_reject_share=1.0)


@given(histories=st.lists(st.lists(st.lists(st.text(max_size=3), max_size=3)) | values, max_size=6))
@modestly
def test_any_history_is_clean_pairs_or_rejects(tmp_path: Path, histories: list[Any]) -> None:
    path = written(tmp_path / "a.jsonl", lines(*(GOOD | {"history": cell} for cell in histories)))
    check_reading(path, history="history", system="history", max_reject_share=1.0)


@pytest.mark.parametrize(
    "cell", ["一问一答", [["问"]], [["问", "答", "问"]], ["问", "答"], [["问", None]], {"问": "答"}]
)
def test_a_history_of_another_form_is_refused(cell: Any) -> None:
    with pytest.raises(Broken, match="history_not_turns"):
        MessageReader().read_history(cell)


@pytest.mark.parametrize("cell", [None, "", []])
def test_an_empty_history_is_none(cell: Any) -> None:
    assert MessageReader().read_history(cell) == ()


def test_sharegpt_keeps_every_turn_and_the_system_prompt(tmp_path: Path) -> None:
    rows = [
        {"conversations": [ASKED, SAID, AGAIN | {"role": "user"}, SAID_AGAIN], "system": "在外面"},
        {"conversations": [{"from": "system", "value": " 在里面 "}, ASKED, SAID], "system": "在外面"},
        {"conversations": [ASKED, SAID]},
    ]
    first, second, third = group("sharegpt", written(tmp_path / "a.jsonl", lines(*rows)))
    assert first == Example("a.jsonl:1", "还是痛。", "去看医生。", "在外面", (("头痛怎么办？", "多休息。"),))
    assert second == Example("a.jsonl:2", "头痛怎么办？", "多休息。", "在里面")
    assert third == Example("a.jsonl:3", "头痛怎么办？", "多休息。")


def test_openai_messages(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", lines({"messages": [RULE, AGAIN, SAID_AGAIN]}))
    assert group("messages", path) == [Example("a.jsonl:1", "还是痛。", "去看医生。", "你是医生。")]


def test_alpaca_joins_instruction_and_input_and_keeps_what_was_said_before(tmp_path: Path) -> None:
    rows = [
        {
            "instruction": "翻译",
            "input": "头痛",
            "output": "headache",
            "system": "用英文",
            "history": [["你好", "Hi"]],
        },
        {"instruction": "头痛怎么办？", "input": "", "output": "多休息。", "system": "", "history": []},
        {"instruction": "发烧怎么办？", "output": "多喝水。"},
    ]
    first, second, third = group("alpaca", written(tmp_path / "a.json", json.dumps(rows)))
    assert first == Example("a.json[0]", "翻译\n头痛", "headache", "用英文", (("你好", "Hi"),))
    assert second == Example("a.json[1]", "头痛怎么办？", "多休息。")
    assert third == Example("a.json[2]", "发烧怎么办？", "多喝水。")


def test_broken_conversations_go_to_the_rejects_with_line_and_reason(tmp_path: Path) -> None:
    rows = [{"c": [ASKED, SAID]}, {"c": [ASKED, ASKED, SAID]}, {"c": [ASKED]}, {"c": []}, {"d": 1},
            {"c": [ASKED, SAID | {"value": " \u200b"}, ASKED, SAID]}, {"c": [ASKED, SAID], "system": [1]}]  # fmt: skip
    path = written(tmp_path / "a.jsonl", lines(*rows))
    assert rejected(path, messages="c", system="system") == [
        ("a.jsonl:2", "one_speaks_twice_running"),
        ("a.jsonl:3", "user_has_the_last_word"),
        ("a.jsonl:4", "empty_conversation"),
        ("a.jsonl:5", "missing_column"),
        ("a.jsonl:6", "empty_earlier_turn"),
        ("a.jsonl:7", "system_not_text"),
    ]


def test_earlier_turns_are_cleaned_like_the_last_one(tmp_path: Path) -> None:
    row = {"c": [ASKED | {"value": "问：头痛<br>怎么办"}, SAID | {"value": "答：好<|im_end|>"}, ASKED, SAID]}
    path = written(tmp_path / "a.jsonl", lines(row))
    examples, ledger = read(path, messages="c", question_prefix="问：", answer_prefix="答：")
    assert examples[0].history == (("头痛\n怎么办", "好<| im_end |>"),)
    assert ledger.counts["chat_tokens_neutralised"] == 1
    assert ledger.counts["pairs_with_history"] == 1


def test_a_column_of_the_users_own_name_must_be_there(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", lines(GOOD | {"sys": "你是医生。"}))
    assert read(path, system="sys")[0][0].system == "你是医生。"
    assert read(path, system="system", history="history")[0][0].system is None
    for key, name in (("system", "sytem"), ("messages", "messages")):
        with pytest.raises(DataError) as caught:
            read(path, **{key: name})
        fault = only_fault(caught)
        assert (fault.code, fault.key, fault.got) == ("column-missing", f"corpus.{key}", name)
        assert fault.allowed == ("question", "answer", "sys")
        assert f"corpus.{key}=COLUMN" in fault.hint


@pytest.mark.parametrize("beside", [{"system": "\ud83d"}, {"history": [["\ud83d", "答"]]}])
def test_half_a_character_anywhere_is_refused(tmp_path: Path, beside: dict[str, Any]) -> None:
    path = written(tmp_path / "a.jsonl", lines(GOOD) + json.dumps(GOOD | beside) + "\n")
    assert rejected(path, system="system", history="history") == [("a.jsonl:2", "lone_surrogate")]


def test_what_preprocessing_writes_is_read_again_as_it_was(tmp_path: Path) -> None:
    from medqa_finetune.data.write_jsonl import write_cleaned

    rows = [{"conversations": [RULE, ASKED, SAID, AGAIN, SAID_AGAIN]}, {"conversations": [ASKED, SAID]}]
    source = written(tmp_path / "a.jsonl", lines(*rows))
    write_cleaned(corpus_of(source, messages="conversations"), tmp_path / "out")
    written_rows = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text("utf-8").splitlines()]
    assert [sorted(row) for row in written_rows] == [
        ["answer", "history", "id", "question", "system"], ["answer", "id", "question"],
    ]  # fmt: skip
    assert group("jsonl", tmp_path / "out" / "pairs.jsonl") == group("sharegpt", source)
