"""Messages as people have them: other names and keys, parts, text that holds a list; what is mended and what is not."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.data.messages import Broken, MessageReader, message_reader
from medqa_finetune.errors import DataError
from tests.data.files import corpus_of, read, rejected, written
from tests.faulty import only_fault

TURNS = (("头痛怎么办？", "多休息。"),)


def said(speaker: str, text: Any, keys: tuple[str, str] = ("role", "content")) -> dict[str, Any]:
    return {keys[0]: speaker, keys[1]: text}


@pytest.mark.parametrize(
    ("user", "assistant"),
    [("患者", "医生"), ("用户", "助手"), ("user", "bot"), ("patient", "Doctor"), ("User", "model"), ("问", "答")],
)
def test_speakers_go_by_many_names(user: str, assistant: str) -> None:
    reader = message_reader(corpus_of(Path("a"), user_names=["问"], assistant_names=["答 "]))
    assert reader.read([said(user, TURNS[0][0]), said(assistant, TURNS[0][1])]).turns == TURNS


@pytest.mark.parametrize("keys", [("role", "value"), ("from", "content"), ("speaker", "text"), ("from", "text")])
def test_any_pair_of_known_keys_makes_a_message(keys: tuple[str, str]) -> None:
    assert MessageReader().read([said("user", TURNS[0][0], keys), said("gpt", TURNS[0][1], keys)]).turns == TURNS


def test_keys_of_the_users_own_are_the_only_ones() -> None:
    reader = message_reader(corpus_of(Path("a"), message_keys=["who", "words"]))
    dialogue = [said("user", TURNS[0][0], ("who", "words")), said("assistant", TURNS[0][1], ("who", "words"))]
    assert reader.read(dialogue).turns == TURNS
    with pytest.raises(Broken, match="not_a_message"):
        reader.read([said("user", "问"), said("assistant", "答")])


def test_a_message_may_be_called_by_its_speaker() -> None:
    pair = {"human": TURNS[0][0], "assistant": TURNS[0][1]}
    assert MessageReader().read([pair, pair]).turns == TURNS * 2
    assert MessageReader().read([{"user": TURNS[0][0]}, {"bot": TURNS[0][1]}]).turns == TURNS


def test_bare_texts_take_turns() -> None:
    assert MessageReader().read(["一", "二", "三", "四"]).turns == (("一", "二"), ("三", "四"))
    with pytest.raises(Broken, match="user_has_the_last_word"):
        MessageReader().read(["一", "二", "三"])


@pytest.mark.parametrize("name", ["system", "developer", "系统"])
def test_a_developer_writes_the_system_prompt(name: str) -> None:
    found = MessageReader().read([said(name, "你是医生。"), said("user", "问"), said("assistant", "答")])
    assert (found.system, found.turns) == ("你是医生。", (("问", "答"),))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "头痛"}], "头痛"),
        ([{"type": "text", "text": "头痛"}, {"type": "input_text", "text": "三天"}], "头痛\n三天"),
        (["头痛", {"text": "三天"}], "头痛\n三天"),
        ({"type": "text", "text": "头痛"}, "头痛"),
    ],
)
def test_parts_of_text_are_joined(content: Any, text: str) -> None:
    assert MessageReader().read([said("user", content), said("assistant", "答")]).turns == ((text, "答"),)


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text"}, 7, None])
def test_other_parts_are_refused_with_their_kind(tmp_path: Path, part: Any) -> None:
    content = [{"type": "text", "text": "看图"}, part]
    rows = [{"m": [said("user", asked), said("assistant", "答")]} for asked in ("问", content)]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert rejected(path, messages="m") == [("a.jsonl:2", "part_not_text")]


@pytest.mark.parametrize("text", [json.dumps, repr, lambda cell: f" {json.dumps(cell)}\n"])
def test_a_list_written_as_text_is_read(text: Any) -> None:
    counts = Counter[str]()
    reader = MessageReader(count=lambda name: counts.update([name]))
    assert reader.read(text([said("user", "'问'"), said("assistant", "答\n")])).turns == (("'问'", "答\n"),)
    assert reader.read_history(text([["问", "答"], ["再问", "再答"]])) == (("问", "答"), ("再问", "再答"))
    assert reader.read_history(text([])) == ()
    assert counts == {"lists_read_from_text": 3}


def test_a_history_may_be_messages() -> None:
    assert MessageReader().read_history([said("user", "问"), said("assistant", "答")]) == (("问", "答"),)


MENDED = {
    "join_turns": ([said("user", "一"), said("user", "二"), said("assistant", "三"), said("assistant", "四")],
                   (("一\n二", "三\n四"),), "messages_joined", "one_speaks_twice_running"),
    "drop_first_answer": ([said("assistant", "您好"), said("user", "一"), said("assistant", "二")],
                          (("一", "二"),), "first_answers_dropped", "user_does_not_begin"),
    "drop_last_question": ([said("user", "一"), said("assistant", "二"), said("user", "谢谢")],
                           (("一", "二"),), "last_questions_dropped", "user_has_the_last_word"),
}  # fmt: skip


@pytest.mark.parametrize("setting", MENDED)
def test_order_is_mended_only_by_a_setting(tmp_path: Path, setting: str) -> None:
    messages, turns, count, reason = MENDED[setting]
    path = written(tmp_path / "a.jsonl", json.dumps({"m": messages}))
    examples, ledger = read(path, messages="m", **{setting: True})
    assert examples[0].turns == turns
    assert ledger.counts[count] == len(messages) - 2 * len(turns)
    with pytest.raises(DataError) as caught:
        read(path, messages="m")
    assert reason in only_fault(caught).problem
    assert f"corpus.{setting}=true" in only_fault(caught).hint


@pytest.mark.parametrize("setting", [{"join_turns": True}, {"user_names": ["家属"]}, {"message_keys": ["a", "b"]}])
def test_settings_of_messages_are_refused_where_there_are_none(tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.jsonl", '{"question": "问", "answer": "答"}'), **setting)
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("conflict", f"corpus.{next(iter(setting))}")


def test_a_question_that_nobody_answers_is_no_dialogue() -> None:
    with pytest.raises(Broken, match="user_has_the_last_word"):
        MessageReader(drop_last_question=True).read([said("user", "一")])


def test_an_unknown_speaker_is_named_with_those_known(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.jsonl", json.dumps({"m": [said("家属", "问"), said("医生", "答")]}, ensure_ascii=False)
    )
    with pytest.raises(DataError) as caught:
        read(path, messages="m")
    fault = only_fault(caught)
    assert "家属" in fault.problem
    for part in ("患者", "developer", "corpus.user_names"):
        assert part in fault.hint
    assert len(read(path, messages="m", user_names=["家属"])[0]) == 1


def test_reasoning_beside_the_text_is_counted(tmp_path: Path) -> None:
    answer = said("assistant", "答") | {"reasoning_content": "想"}
    path = written(tmp_path / "a.jsonl", json.dumps({"m": [said("user", "问"), answer]}))
    assert read(path, messages="m")[1].counts["messages_with_reasoning_content_not_read"] == 1


def test_prompt_and_completion_may_be_messages(tmp_path: Path) -> None:
    prompt = [said("system", "你是医生。"), said("user", "问")]
    rows = [{"prompt": prompt, "completion": [said("assistant", "答")]}, {"prompt": prompt, "completion": "答"}]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    examples, _ = read(path, question="prompt", answer="completion")
    assert [(each.system, each.turns) for each in examples] == [("你是医生。", (("问", "答"),))] * 2


def test_short_last_turns_do_not_take_the_dialogue_along(tmp_path: Path) -> None:
    turns = [said("user", "头痛怎么办"), said("assistant", "休息"), said("user", "好"), said("assistant", "嗯")]
    path = written(tmp_path / "a.jsonl", json.dumps({"m": turns}))
    assert len(read(path, messages="m")[0][0].turns) == 2
    examples, ledger = read(path, messages="m", min_answer_characters=2)
    assert examples[0].turns == (("头痛怎么办", "休息"),)
    assert ledger.counts["short_last_turns_dropped"] == 1
