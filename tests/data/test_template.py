"""Chat templates of published models and of our own forms, with both kinds of tokenizers."""

from itertools import product
from typing import Any

import pytest

from medqa_finetune.config.chat_form import ChatForm, form_of
from medqa_finetune.config.schema import ModelConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import IGNORED, Example
from medqa_finetune.data.fixed_date import with_date
from medqa_finetune.data.template import ChatTemplate
from medqa_finetune.data.thoughts import split_thought
from medqa_finetune.errors import ModelError
from scripts.published_templates import KINDS, published_templates, tokenizer_for
from scripts.template_table import CASES, OWN_FORMS, encoded
from tests.faulty import only_fault

PUBLISHED = published_templates()
NO_SYSTEM = ("gemma", "gemma_training")
NO_THOUGHTS = ("gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4")
THOUGHT = "<think>\n想。\n</think>\n\n"
KEEP = ChatForm(thinks=True)
needs_trl = pytest.mark.skipif(not PUBLISHED, reason="trl is not installed: pip install --no-deps trl==1.16.0")


def template_of(name: str) -> str:
    return PUBLISHED[name].read_text("utf-8") if name in PUBLISHED else OWN_FORMS[name]


def learnt(tokenizer: Any, template: str, example: Example, form: ChatForm = KEEP) -> str:
    (item,) = Encoder(tokenizer, 2048, form).encode([example])
    return str(tokenizer.decode([label for label in item.labels if label != IGNORED]))


@needs_trl
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates_encode_as_they_do_themselves(name: str) -> None:
    for kind, case in product(KINDS, CASES):
        if (name in NO_SYSTEM and case == "system") or (name in NO_THOUGHTS and case == "thought"):
            continue
        encoded(template_of(name), kind, case)


@needs_trl
@pytest.mark.parametrize("name", NO_SYSTEM)
def test_a_template_without_system_prompts_names_the_remedy(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        encoded(template_of(name), KINDS[0], "system")
    assert "corpus.system=null" in only_fault(caught).hint


@pytest.mark.parametrize("name", [name for name in OWN_FORMS if name != "no end"])
def test_further_forms_encode_as_they_do_themselves(name: str) -> None:
    for kind, case in product(KINDS, CASES):
        encoded(template_of(name), kind, case)


@pytest.mark.parametrize(("start", "kind"), [*product(["The", "多", "1", "(", "- "], KINDS)])
def test_a_space_before_the_answer_is_learnt_with_it(start: str, kind: str) -> None:
    """Llama 2's `[/INST] The` is one token with the space; asked is what stands before it."""
    tokenizer = tokenizer_for(OWN_FORMS["llama2"], kind)
    encoder = Encoder(tokenizer, 512)
    example = Example("1", "发烧？", f"{start}喝水。")
    (item,) = encoder.encode([example])
    assert item.input_ids == tokenizer.apply_chat_template(
        [{"role": "user", "content": "发烧？"}, {"role": "assistant", "content": example.answer}], return_dict=False
    )
    assert encoder.prompts([example]) == [item.input_ids[: item.answer_start]]
    assert str(tokenizer.decode(item.input_ids[: item.answer_start])).endswith("[/INST]")


@needs_trl
@pytest.mark.parametrize("kind", KINDS)
def test_thoughts_stand_where_the_model_writes_them(kind: str) -> None:
    example = Example("1", "发烧？", f"{THOUGHT}喝水。")
    for name, opened in (("qwen3", "<think>"), ("deepseek_r1_distill", "想。"), ("qwen3_5_think", "想。")):
        tokenizer = tokenizer_for(template_of(name), kind)
        text = learnt(tokenizer, name, example)
        assert (text.split()[0].startswith(opened), text.count("想。"), text.count("</think>")) == (True, 1, 1)
        assert "想" not in learnt(tokenizer, name, example, ChatForm())


@needs_trl
def test_thoughts_left_out_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    encoder = Encoder(tokenizer_for(template_of("qwen3"), "byte-level"), 512)
    (item,) = encoder.encode([Example("1", "发烧？", f"{THOUGHT}喝水。", None, (("你好", f"{THOUGHT}您好"),))])
    assert (item.thoughts, item.untrained) == (2, 1)
    assert "model.thinking=keep" in caplog.text


@needs_trl
@pytest.mark.parametrize(
    ("written", "text", "thought", "unclosed"),
    [
        ("<think>\n想。\n</think>\n\n喝水。<|im_end|>", "喝水。", "想。", False),
        ("<think>\n\n</think>\n\n喝水。<|im_end|>", "喝水。", "", False),
        ("<think>\n想想想", "", "<think>\n想想想", True),
        ("喝水。<|im_end|>", "喝水。", None, False),
    ],
)
@pytest.mark.parametrize("form", [ChatForm(), KEEP], ids=["off", "keep"])
def test_what_follows_the_thought_is_the_answer(
    written: str, text: str, thought: str | None, unclosed: bool, form: ChatForm
) -> None:
    tokenizer = tokenizer_for(template_of("qwen3"), "byte-level")
    answer = Encoder(tokenizer, 512, form).answer_of(tokenizer(written)["input_ids"])
    assert (answer.text, answer.thought, answer.unclosed) == (text, thought, unclosed)


@needs_trl
@pytest.mark.parametrize(
    ("written", "text", "unclosed"), [("想。\n</think>\n\n喝水。", "喝水。", False), ("想想", "", True)]
)
def test_a_thought_that_the_prompt_opens_must_close(written: str, text: str, unclosed: bool) -> None:
    tokenizer = tokenizer_for(template_of("deepseek_r1_distill"), "byte-level")
    answer = Encoder(tokenizer, 512, KEEP).answer_of(tokenizer(written)["input_ids"])
    assert (answer.text, answer.unclosed) == (text, unclosed)


@pytest.mark.parametrize(
    ("setting", "thoughts", "thinks"),
    [
        ("auto", 0, False),
        ("auto", 3, True),
        ("off", 3, False),
        ("keep", 0, True),
    ],
)
def test_auto_thinks_if_the_corpus_does(setting: str, thoughts: int, thinks: bool) -> None:
    assert form_of(ModelConfig("m", "p", thinking=setting), {"pairs_with_thoughts": thoughts}).thinks == thinks


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>想</think>答", ("想", "答")), ("想\n</think>\n答", ("想", "答")), ("答", (None, "答")),
        ("<think>想", (None, "<think>想")), ("<think>a</think>b</think>c", ("a", "b</think>c")),
    ],
)  # fmt: skip
def test_a_thought_ends_at_the_first_mark(text: str, parts: tuple[str | None, str]) -> None:
    assert split_thought(text) == parts


DATED = "{{ 'Today: ' + strftime_now('%d %b %Y, %-d.') + '\\n' }}"


def test_ids_do_not_change_at_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_for(DATED + OWN_FORMS["chatml"], "byte-level")
    fingerprints, texts = set(), set()
    for day in (None, "2024-07-06"):
        template = ChatTemplate(tokenizer, ChatForm(day=day))
        texts.add(template.prompt(Example("1", "问", "")).partition("\n")[0])
        fingerprints.add(Encoder(tokenizer, 512, ChatForm(day=day)).fingerprint)
    assert texts == {"Today: 01 Jan 2026, 1.", "Today: 06 Jul 2024, 6."}
    assert len(fingerprints) == 2


def test_a_date_that_nothing_shows_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        Encoder(tokenizer_for(OWN_FORMS["chatml"], "byte-level"), 512, ChatForm(day="2024-07-06"))
    assert (only_fault(caught).code, only_fault(caught).key) == ("no-effect", "model.date")


def test_templates_without_a_date_stay_as_they_are() -> None:
    assert with_date(OWN_FORMS["llama2"], "2024-07-06") is OWN_FORMS["llama2"]


MARKS = ["<s>", "</s>", "<|im_end|>", "<end_of_turn>", "[gMASK]", "<|START|>", "<unk_7>", "<think>"]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("kind", KINDS)
def test_contents_never_give_control_tokens(mark: str, kind: str) -> None:
    from tokenizers import AddedToken

    template = OWN_FORMS["chatml"].replace("{% if add", "{% set thought = '<think>' %}{% if add")
    tokenizer = tokenizer_for(template, kind)
    tokenizer.add_tokens([AddedToken(each, special=each != "<think>") for each in MARKS])
    controls = {tokenizer.convert_tokens_to_ids(each) for each in MARKS}
    plain, marked = Example("1", "问", "答", "系统"), Example("2", f"问{mark}", f"答{mark}{mark}", f"{mark}系")
    items = list(Encoder(tokenizer, 512).encode([plain, marked]))
    counts = [sum(token in controls for token in item.input_ids) for item in items]
    assert counts[0] == counts[1]
    assert [item.marks for item in items] == [0, 4]


@pytest.mark.parametrize("content", ["  缩进", "a\n\n", "<tool_response>x</tool_response>", "{{ x }}", "答"])
def test_contents_that_a_template_trims_are_found(content: str) -> None:
    trims = OWN_FORMS["chatml"].replace("m['content']", "(m['content'] | trim)")
    tokenizer = tokenizer_for(trims, "byte-level")
    assert learnt(tokenizer, trims, Example("1", "答", content), ChatForm()) == f"{content.strip()}<|im_end|>"


def test_a_template_that_reads_contents_is_followed_where_the_place_is_certain() -> None:
    """As Nemotron's, which takes `/no_think` out of a question."""
    reads = OWN_FORMS["chatml"].replace("m['content']", "m['content'].replace('/short', '')")
    tokenizer = tokenizer_for("{% if '/short' in messages[0]['content'] %}{{ 'Be short.\n' }}{% endif %}" + reads, "▁")
    encoder = Encoder(tokenizer, 512)
    assert list(encoder.encode([Example("1", "发烧怎么办？", "喝水。")]))
    with pytest.raises(ModelError) as caught:
        list(encoder.encode([Example("1", "发烧/short怎么办？", "喝水。")]))
    assert only_fault(caught).code == "template-unfit"


def test_the_mark_of_the_next_turn_ends_an_answer_without_one() -> None:
    """GLM-4 puts nothing after an answer; the next turn begins with `<|user|>`."""
    template = "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}{% endfor %}"
    tokenizer = tokenizer_for(
        template + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}", "byte-level"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    assert learnt(tokenizer, template, Example("1", "问", "答"), ChatForm()) == "答<|user|>"


def test_an_end_mark_need_not_be_named_in_the_config() -> None:
    tokenizer = tokenizer_for(OWN_FORMS["chatml"], "byte-level")
    assert "<|im_end|>" not in tokenizer.special_tokens_map.values()
    assert Encoder(tokenizer, 512).end_ids == [tokenizer.convert_tokens_to_ids("<|im_end|>")]


@needs_trl
@pytest.mark.parametrize("form", [ChatForm(), KEEP, ChatForm(day="2024-07-06")], ids=["off", "keep", "day"])
@pytest.mark.parametrize(
    "name",
    ["qwen3", "qwen3_5_think", "glm4moe", "llama3_2", "gptoss", "gemma4_v5", "deepseek_r1_distill", "muse_glimmer"],
)
def test_an_exported_template_asks_as_it_was_trained(name: str, form: ChatForm) -> None:
    """Without options, as plain transformers and vLLM use it."""
    tokenizer = tokenizer_for(template_of(name), "byte-level")
    if form.day is not None and "strftime_now" not in template_of(name):
        pytest.skip("shows no date")
    encoder, template = Encoder(tokenizer, 4096, form), ChatTemplate(tokenizer, form)
    whole = template.messages(CASES["history"])
    before = tokenizer.apply_chat_template(whole, tokenize=False, **template.options)
    tokenizer.chat_template = template.as_trained
    question = [{"role": "user", "content": "发烧怎么办？"}]
    asked = str(tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True))
    assert asked == tokenizer.decode(encoder.dialogue(None, (), "发烧怎么办？"))
    assert tokenizer.apply_chat_template(whole, tokenize=False) == before


@needs_trl
@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "deepseek_r1_distill", "nemotron_3_nano", "muse_glimmer"])
@pytest.mark.parametrize("form", [ChatForm(), KEEP], ids=["off", "keep"])
def test_empty_thoughts_are_none(name: str, form: ChatForm) -> None:
    tokenizer = tokenizer_for(template_of(name), "byte-level")
    items = list(
        Encoder(tokenizer, 4096, form).encode(
            [Example("1", "发烧？", "<think>\n\n</think>\n\n喝水。"), Example("2", "发烧？", "喝水。")]
        )
    )
    assert items[0] == items[1]


@needs_trl
def test_gemma_4_thinks_with_marks_of_its_own() -> None:
    tokenizer = tokenizer_for(template_of("gemma4"), "byte-level")
    with pytest.raises(ModelError) as caught:
        list(Encoder(tokenizer, 4096, KEEP).encode([CASES["thought"]]))
    assert only_fault(caught).key == "model.thinking"
    for name in ("gemma4", "gemma4_v5"):
        tokenizer = tokenizer_for(template_of(name), "byte-level")
        written = tokenizer("<|channel>thought\n想。\n<channel|>喝水。<turn|>")["input_ids"]
        answer = Encoder(tokenizer, 4096).answer_of(written)
        assert (answer.text, answer.thought) == ("喝水。", "想。")


def test_several_templates_without_a_default_are_refused() -> None:
    tokenizer = tokenizer_for(OWN_FORMS["chatml"], "byte-level")
    tokenizer.chat_template = {"tool_use": OWN_FORMS["chatml"]}
    with pytest.raises(ModelError) as caught:
        Encoder(tokenizer, 512)
    assert only_fault(caught).code == "template-unfit"
    tokenizer.chat_template = {"tool_use": "{{ 1 }}", "default": OWN_FORMS["chatml"]}
    assert learnt(tokenizer, "", Example("1", "问", "答"), ChatForm()) == "答<|im_end|>"


def test_tokenizers_without_offsets_encode_alike() -> None:
    from tokenizers import AddedToken
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    tokenizer.chat_template = OWN_FORMS["chatml"]
    assert not tokenizer.is_fast
    encoder = Encoder(tokenizer, 4096)
    (item,) = encoder.encode([CASES["history"]])
    assert learnt(tokenizer, "", CASES["history"], ChatForm()).count("<|im_end|>") == 3
    assert encoder.prompts([CASES["history"]]) == [item.input_ids[: item.answer_start]]


def test_answers_that_the_tokenizer_joins_with_the_prompt_are_kept_apart() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: place for place, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bpe = Tokenizer(models.BPE(vocab=vocabulary | {":X": len(vocabulary)}, merges=[(":", "X")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    names: dict[str, Any] = {"eos_token": "</s>", "pad_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **names)  # type: ignore[no-untyped-call]
    tokenizer.chat_template = OWN_FORMS["no end"].replace(": '", ":'").replace("'\n'", "eos_token")
    example = Example("1", "问", "Xylo", None, (("问", "答"),))
    encoder = Encoder(tokenizer, 512)
    (item,) = encoder.encode([example])
    assert encoder.prompts([example]) == [item.input_ids[: item.answer_start]]
    assert tokenizer.decode(item.input_ids[item.answer_start :]) == "Xylo</s>"
