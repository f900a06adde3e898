"""Dialogues in ids and labels: every answer's tokens and its end, nothing else; cut from the front."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medqa_finetune.data.encode import QUESTION_SHARE, Encoder
from medqa_finetune.data.examples import IGNORED, Encoded, Example
from medqa_finetune.data.layout import Rendered
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.errors import Fault, ModelError
from tests.data.test_encode import cleaned, micro_tokenizer, template, tokenizer, with_template
from tests.faulty import only_fault

__all__ = ["micro_tokenizer", "tokenizer"]

SYSTEM = "你是医生。"
HISTORY = (("头痛怎么办？", "多休息。"), ("还是痛。", "多喝水，多休息。"))
PAIR = Example("p", "三天了。", "去看医生。", SYSTEM, HISTORY)
turns = st.lists(st.tuples(cleaned, cleaned), min_size=1, max_size=4)
spans = st.lists(st.integers(1, 3), min_size=1, max_size=7)


def dialogue(system: str | None, said: list[tuple[str, str]]) -> Example:
    return Example("p", *said[-1], system, tuple(said[:-1]))


def encode(tokenizer: Any, example: Example, max_length: int = 10_000) -> Encoded:
    return next(iter(Encoder(tokenizer, max_length).encode([example])))


def messages(example: Example) -> list[tuple[str, str]]:
    system = [] if example.system is None else [("system", example.system)]
    return system + [message for turn in example.turns for message in zip(("user", "assistant"), turn, strict=True)]


def learnt(tokenizer: Any, item: Encoded) -> list[str]:
    """The stretches of text that have labels."""
    stretches: list[list[int]] = [[]]
    for label in item.labels:
        stretches += [[]] if label == IGNORED and stretches[-1] else []
        stretches[-1] += [] if label == IGNORED else [label]
    return [tokenizer.decode(stretch) for stretch in stretches if stretch]


@settings(max_examples=40, deadline=None)
@given(system=st.none() | cleaned, said=turns)
def test_ids_are_those_of_the_whole_conversation_and_labels_those_of_every_answer(
    tokenizer: Any, system: str | None, said: list[tuple[str, str]]
) -> None:
    example = dialogue(system, said)
    item = encode(tokenizer, example)
    whole = tokenizer(template(tokenizer, *messages(example)), add_special_tokens=False)["input_ids"]
    assert item.input_ids == whole[: len(item.input_ids)]
    assert tokenizer.decode(whole[len(item.input_ids) :]) == "\n"
    assert learnt(tokenizer, item) == [f"{answer}<|im_end|>" for _, answer in said]
    assert item.answer_tokens == sum(label != IGNORED for label in item.labels)


def test_without_a_system_prompt_the_template_has_its_own(tokenizer: Any) -> None:
    default = template(tokenizer, ("user", "问")).partition("<|im_start|>user")[0]
    assert tokenizer.decode(encode(tokenizer, Example("p", "问", "答")).input_ids).startswith(default)
    own = tokenizer.decode(encode(tokenizer, PAIR).input_ids)
    assert own.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{HISTORY[0][0]}")


def test_asking_and_training_see_the_same_dialogue(tokenizer: Any) -> None:
    item, encoder = encode(tokenizer, PAIR, 512), Encoder(tokenizer, 512)
    assert encoder.prompts([PAIR]) == [item.input_ids[: item.answer_start]]
    assert encoder.dialogue(SYSTEM, HISTORY, PAIR.question) == item.input_ids[: item.answer_start]


@settings(max_examples=80, deadline=None)
@given(system=st.none() | cleaned, said=turns, max_length=st.integers(75, 400))
def test_any_dialogue_fits_keeps_its_last_turn_and_has_labels(
    tokenizer: Any, system: str | None, said: list[tuple[str, str]], max_length: int
) -> None:
    example = dialogue(system, said)
    item, whole = encode(tokenizer, example, max_length), encode(tokenizer, example)
    assert len(item.input_ids) <= max_length
    assert 1 <= item.answer_start < len(item.input_ids)
    assert item.cut == (len(whole.input_ids) > max_length)
    assert item.cut or item == whole
    # As many of the last turns as fit, whole.
    shorter = [encode(tokenizer, dialogue(system, said[n:])) for n in range(len(said))]
    fitting = [kept for kept in shorter if len(kept.input_ids) <= max_length]
    if fitting:
        assert (item.input_ids, item.labels) == (fitting[0].input_ids, fitting[0].labels)
    else:
        assert item.earlier == ()


@settings(max_examples=40, deadline=None)
@given(system=st.none() | cleaned, said=turns, max_length=st.integers(75, 300))
def test_prompts_leave_a_quarter_for_the_answer(
    tokenizer: Any, system: str | None, said: list[tuple[str, str]], max_length: int
) -> None:
    prompt = Encoder(tokenizer, max_length).prompts([dialogue(system, said)])[0]
    assert len(prompt) <= max_length * QUESTION_SHARE
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")


def test_a_system_prompt_of_any_length_leaves_room_for_the_question(tokenizer: Any) -> None:
    item = encode(tokenizer, Example("p", "头痛怎么办？", "多休息。", "你是医生。" * 200), 128)
    text = tokenizer.decode(item.input_ids)
    assert text.startswith("<|im_start|>system\n你是医生。你是")
    assert "头痛怎么办？" in text
    assert learnt(tokenizer, item) == ["多休息。<|im_end|>"]
    assert item.cut


def test_a_long_history_is_cut_without_trying_every_length(
    micro_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(micro_tokenizer, 128)
    rendered = 0
    render = encoder._template.render

    def counting(example: Example) -> Rendered:
        nonlocal rendered
        rendered += 1
        return render(example)

    monkeypatch.setattr(encoder._template, "render", counting)
    example = Example("p", "问题", "回答", None, (("头痛怎么办？", "多休息。"),) * 60)
    (item,) = encoder.encode([example])
    assert item.cut
    assert item.earlier
    assert rendered <= 4


CHATML = "{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}"
PROMPT = "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
CHANGES_EARLIER = (
    "{% for m in messages %}{% if m['role'] == 'user' and loop.index < messages|length - 1 %}"
    "{{'<|im_start|>user\n…<|im_end|>\n'}}{% else %}" + CHATML + "{% endif %}{% endfor %}" + PROMPT
)
ENDS_OTHERWISE = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content']}}"
    "{{'<|im_end|>\n' if loop.last or m['role'] == 'user' else '<|endoftext|>\n'}}{% endfor %}" + PROMPT
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{raise_exception('System role not supported')}}{% endif %}"
    + CHATML + "{% endfor %}" + PROMPT
)  # fmt: skip


@pytest.mark.parametrize(
    ("chat_template", "beside", "code", "part"),
    [
        (CHANGES_EARLIER, {"system": False, "history": True}, "template-unfit", "the question of turn 1"),
        (NO_SYSTEM, {"system": True, "history": False}, "template-fails", "System role not supported"),
    ],
    ids=["changes_earlier", "no_system"],
)
def test_a_template_that_cannot_be_used_for_dialogues_is_refused_for_them_alone(
    micro_tokenizer: Any, chat_template: str, beside: dict[str, bool], code: str, part: str
) -> None:
    def check(fault: Fault) -> None:
        assert (fault.code, part in fault.problem, bool(fault.hint)) == (code, True, True)

    encoder = Encoder(with_template(micro_tokenizer, chat_template), 512)
    assert list(encoder.encode([Example("p", "问", "答")]))
    encoder.check_dialogues(system=False, history=False)
    with pytest.raises(ModelError) as caught:
        encoder.check_dialogues(**beside)
    check(only_fault(caught))
    example = Example(
        "p", "问题", "回答", "系统" if beside["system"] else None, (("问", "答"),) if beside["history"] else ()
    )
    with pytest.raises(ModelError) as caught:
        list(encoder.encode([example]))
    check(only_fault(caught))


def test_earlier_turns_that_end_otherwise_are_counted_and_not_trained(micro_tokenizer: Any) -> None:
    item = encode(with_template(micro_tokenizer, ENDS_OTHERWISE), PAIR)
    assert (item.earlier, item.untrained) == ((), 2)
    assert learnt(micro_tokenizer, item) == [f"{PAIR.answer}<|im_end|>"]


def encoded(lengths: list[int], number: int) -> Encoded:
    """Return an item whose prompts and answers take turns, of these lengths."""
    ids = [100 * number + place for place in range(sum(lengths) + 2)]
    ends = [sum(lengths[:place]) for place in range(1, len(lengths) + 1)]
    earlier = tuple((1 + begin, 1 + end) for begin, end in zip(ends[::2], ends[1::2], strict=False))
    return Encoded(ids, len(ids) - 1, cut=bool(number % 2), earlier=earlier)


@given(st.lists(spans, max_size=6))
def test_a_set_gives_back_every_span_that_went_in(items: list[list[int]]) -> None:
    went_in = [encoded(lengths, number) for number, lengths in enumerate(items)]
    kept = EncodedSet(went_in)
    assert list(kept) == [{"input_ids": item.input_ids, "labels": item.labels} for item in went_in]
    assert [kept[place - len(kept)] for place in range(len(kept))] == list(kept)
    assert [kept.encoded(place) for place in range(len(kept))] == went_in
    assert kept.cut == sum(item.cut for item in went_in)
    for n in range(len(kept) + 1):
        assert list(kept.prefix(n)) == list(kept)[:n]
