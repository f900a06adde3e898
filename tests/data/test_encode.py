import copy
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medqa_finetune.data.encode import EXAMPLES_PER_CALL, QUESTION_SHARE, Encoder
from medqa_finetune.data.examples import IGNORED, Encoded, Example
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.errors import ModelError
from tests.conftest import REPOSITORY
from tests.faulty import only_fault

QUESTION, ANSWER = "感冒了，怎么办？", "多休息，多喝水；38.5℃ 以上用 Ibuprofen。"
LONG_QUESTION, LONG_ANSWER = "我头痛三天了。" * 80, "多休息。" * 200
HEADER = "<|im_start|>assistant\n"
SYLLABLES = list("感冒发烧头痛怎么办多休息喝水。，？ab1 \n😊")
# Cleaned texts have no white space at their ends; nothing here is changed by Unicode normalization.
cleaned = st.text(SYLLABLES, min_size=1, max_size=120).map(str.strip).filter(bool)
encoded_items = st.lists(
    st.builds(
        lambda ids, start, cut: Encoded(ids, min(start, len(ids) - 1), cut),
        st.lists(st.integers(0, 151_935), min_size=2, max_size=9),
        st.integers(1, 8),
        st.booleans(),
    ),
    max_size=6,
)


@pytest.fixture(scope="module", params=["qwen25", "micro", "tiny"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    from transformers import AutoTokenizer

    if request.param == "micro":
        folder = request.getfixturevalue("micro_model")
    elif request.param == "qwen25":
        folder = request.getfixturevalue("shared") / "qwen25_tokenizer"
    else:
        folder = REPOSITORY / "medqa_finetune" / "model" / "tiny"
        if not (folder / "tokenizer.json").is_file():
            pytest.skip("the tiny model has not been built yet")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module")
def micro_tokenizer(micro_model: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(micro_model, local_files_only=True)


def encode(tokenizer: Any, max_length: int, question: str, answer: str) -> Encoded:
    return next(iter(Encoder(tokenizer, max_length).encode([Example("p", question, answer)])))


def template(tokenizer: Any, *messages: tuple[str, str], **options: Any) -> str:
    chat = [{"role": role, "content": content} for role, content in messages]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, **options))


def with_template(tokenizer: Any, text: str) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = text
    return changed


def test_labels_are_the_answer_with_its_end_token_and_nothing_else(tokenizer: Any) -> None:
    item = encode(tokenizer, 512, QUESTION, ANSWER)
    learned = [label for label in item.labels if label != IGNORED]
    assert tokenizer.decode(learned) == ANSWER + "<|im_end|>"
    assert item.labels == [IGNORED] * item.answer_start + item.input_ids[item.answer_start :]
    assert not item.cut


def test_prompt_is_the_template_with_its_generation_prompt(tokenizer: Any) -> None:
    item = encode(tokenizer, 512, QUESTION, ANSWER)
    expected = template(tokenizer, ("user", QUESTION), add_generation_prompt=True)
    assert tokenizer.decode(item.input_ids[: item.answer_start]) == expected
    assert expected.endswith(HEADER)


def test_asking_and_training_see_the_same_prompt(tokenizer: Any) -> None:
    item = encode(tokenizer, 512, QUESTION, ANSWER)
    assert Encoder(tokenizer, 512).prompts([Example("p", QUESTION, "")]) == [item.input_ids[: item.answer_start]]


@settings(max_examples=30, deadline=None)
@given(question=cleaned, answer=cleaned)
def test_ids_are_those_of_the_whole_conversation_up_to_the_end_token(
    tokenizer: Any, question: str, answer: str
) -> None:
    item = encode(tokenizer, 2048, question, answer)
    conversation = template(tokenizer, ("user", question), ("assistant", answer))
    whole = tokenizer(conversation, add_special_tokens=False)["input_ids"]
    assert item.input_ids == whole[: len(item.input_ids)]
    assert tokenizer.decode(whole[len(item.input_ids) :]) == "\n"


def test_long_answer_loses_its_end_and_the_end_token(tokenizer: Any) -> None:
    item, whole = encode(tokenizer, 100, QUESTION, LONG_ANSWER), encode(tokenizer, 9000, QUESTION, LONG_ANSWER)
    assert item.input_ids == whole.input_ids[:100]
    assert item.answer_start == whole.answer_start
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in item.labels
    assert item.cut


def test_long_question_is_shortened_inside_the_template(tokenizer: Any) -> None:
    item = encode(tokenizer, 100, LONG_QUESTION, "多休息。")
    prompt = tokenizer.decode(item.input_ids[: item.answer_start])
    before, after = template(tokenizer, ("user", "…"), add_generation_prompt=True).split("…")
    question = prompt.removeprefix(before).removesuffix(after)
    assert prompt == before + question + after
    assert question
    assert LONG_QUESTION.startswith(question)
    assert item.answer_start <= 75
    assert item.cut


def test_short_answer_to_a_long_question_is_kept_whole(tokenizer: Any) -> None:
    item = encode(tokenizer, 100, LONG_QUESTION, "多休息。")
    assert tokenizer.decode(item.input_ids[item.answer_start :]) == "多休息。<|im_end|>"


def test_question_is_never_cut_inside_a_character(tokenizer: Any) -> None:
    for max_length in range(80, 110):
        prompt = tokenizer.decode(Encoder(tokenizer, max_length).prompts([Example("p", "😊痛" * 100, "")])[0])
        assert "\ufffd" not in prompt


@settings(max_examples=60, deadline=None)
@given(question=cleaned, answer=cleaned, max_length=st.integers(70, 300))
@example(question="1" * 24, answer="1", max_length=70)  # a question above its share, in an example that fits
def test_any_pair_fits_keeps_its_header_and_has_labels(
    tokenizer: Any, question: str, answer: str, max_length: int
) -> None:
    item, whole = encode(tokenizer, max_length, question, answer), encode(tokenizer, 10_000, question, answer)
    assert len(item.input_ids) <= max_length
    assert 1 <= item.answer_start < len(item.input_ids)
    assert tokenizer.decode(item.input_ids[: item.answer_start]).endswith(HEADER)
    assert item.cut == (len(whole.input_ids) > max_length)
    assert item.cut or item == whole


@settings(max_examples=30, deadline=None)
@given(question=cleaned, max_length=st.integers(70, 300))
def test_prompts_leave_a_quarter_for_the_answer(tokenizer: Any, question: str, max_length: int) -> None:
    prompt = Encoder(tokenizer, max_length).prompts([Example("p", question, "")])[0]
    assert len(prompt) <= max_length * QUESTION_SHARE


def test_pairs_keep_their_order_across_chunks(micro_tokenizer: Any) -> None:
    examples = [Example(str(number), "问", f"答{number}") for number in range(EXAMPLES_PER_CALL + 2)]
    items = list(Encoder(micro_tokenizer, 64).encode(examples))
    decoded = [micro_tokenizer.decode(item.input_ids[item.answer_start :]) for item in items]
    assert decoded == [f"{example.answer}<|im_end|>" for example in examples]


def test_cut_pairs_are_counted(micro_tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    examples = [Example("a", QUESTION, "好"), Example("b", QUESTION, LONG_ANSWER), Example("c", LONG_QUESTION, "好")]
    encoded = EncodedSet(Encoder(micro_tokenizer, 100).encode(examples))
    assert (len(encoded), encoded.cut) == (3, 2)
    assert "2 of 3 examples (66.7 %) are longer than train.max_length=" in caplog.text


@given(encoded_items)
def test_encoded_set_gives_back_what_went_in(items: list[Encoded]) -> None:
    encoded = EncodedSet(items)
    assert list(encoded) == [{"input_ids": item.input_ids, "labels": item.labels} for item in items]
    assert encoded.lengths.tolist() == [len(item.input_ids) for item in items]
    assert [encoded.encoded(place) for place in range(len(items))] == items
    assert encoded[1:] == list(encoded)[1:]
    assert encoded.cut == sum(item.cut for item in items)
    assert encoded.tokens == sum(len(item.input_ids) for item in items)


@given(encoded_items)
def test_negative_indices_count_from_the_end(items: list[Encoded]) -> None:
    encoded = EncodedSet(items)
    for place in range(-len(items), 0):
        assert encoded[place] == encoded[place + len(items)]
        assert encoded.encoded(place) == items[place]


@pytest.mark.parametrize("index", [2, 3, -3, -4])
def test_index_out_of_range_is_refused(index: int) -> None:
    encoded = EncodedSet([Encoded([1, 2], 1, cut=False), Encoded([3, 4, 5], 1, cut=False)])
    with pytest.raises(IndexError):
        encoded[index]
    with pytest.raises(IndexError):
        encoded.encoded(index)


def test_empty_set_has_no_tokens() -> None:
    encoded = EncodedSet([])
    assert (len(encoded), encoded.tokens, encoded.cut) == (0, 0, 0)
    with pytest.raises(IndexError):
        encoded[0]


def test_everything_up_to_the_first_special_token_ends_an_answer(micro_tokenizer: Any) -> None:
    spaced = with_template(micro_tokenizer, micro_tokenizer.chat_template.replace("'<|im_end|>\n'", "'\n<|im_end|>\n'"))
    item = encode(spaced, 128, QUESTION, "多喝水。")
    assert spaced.decode(item.input_ids[item.answer_start :]) == "多喝水。\n<|im_end|>"


@pytest.mark.parametrize(
    ("chat_template", "code", "part"),
    [
        (
            "{% for m in messages %}{{m['role'] + ': ' + m['content'] + '\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{'assistant: '}}{% endif %}",
            "template-unfit",
            "special token",
        ),
        ("{{ raise_exception('roles must alternate') }}", "template-fails", "roles must alternate"),
    ],
    ids=["no_end", "raises"],
)
def test_template_that_cannot_be_trained_on_is_refused(
    micro_tokenizer: Any, chat_template: str, code: str, part: str
) -> None:
    with pytest.raises(ModelError) as caught:
        Encoder(with_template(micro_tokenizer, chat_template), 512)
    fault = only_fault(caught)
    assert (fault.code, part in fault.problem) == (code, True)
    assert fault.hint


def test_max_length_too_small_for_the_template_names_one_that_works(tokenizer: Any) -> None:
    with pytest.raises(ModelError) as caught:
        Encoder(tokenizer, 12)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("out-of-range", "train.max_length", 12)
    remedy = re.search(r"train\.max_length=(\d+)", fault.hint)
    assert remedy is not None
    wanted = int(remedy[1])
    item = encode(tokenizer, wanted, LONG_QUESTION, LONG_ANSWER)
    assert len(item.input_ids) == wanted
    assert item.answer_start < wanted
