"""Likelihood and answers equal plain transformers', with byte-level tokenizers and those that put `▁` for a space."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.evaluation.reference_likelihood import reference_likelihoods
from scripts.published_templates import KINDS, tokenizer_for
from scripts.small_models import SIZES
from scripts.template_table import OWN_FORMS

EXAMPLES = [
    Example("1", "发烧怎么办？", "The answer is 1."),
    Example("2", "感冒怎么办？", "多喝水，\n  - 休息", "你是医生。"),
    Example("3", "还是痛。", "去医院。", None, (("头痛。", "Rest."), ("三天了。", "多休息。"))),
]
NEW_TOKENS = 24


@pytest.fixture(scope="module", params=[(form, kind) for form in ("llama2", "chatml") for kind in KINDS], ids=str)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return tokenizer_for(OWN_FORMS[request.param[0]], request.param[1])


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id, "pad_token_id": None}
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SIZES, **ids))
    return model.eval()


def messages(example: Example) -> list[dict[str, str]]:
    system = [] if example.system is None else [{"role": "system", "content": example.system}]
    turns = [zip(("user", "assistant"), turn, strict=True) for turn in example.turns]
    return system + [{"role": role, "content": content} for turn in turns for role, content in turn]


def test_loss_of_the_last_answer_is_that_of_plain_transformers(tokenizer: Any, model: Any) -> None:
    encoder = Encoder(tokenizer, 512)
    ours = reference_likelihoods(model, list(encoder.encode(EXAMPLES)), 2048)
    for example, (nll, tokens) in zip(EXAMPLES, ours, strict=True):
        text = tokenizer.apply_chat_template(messages(example), tokenize=False)
        plain = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        begin = text.rindex(example.answer)
        end = text.index(tokenizer.decode(encoder.end_ids[-1:]), begin)
        # A space before the answer belongs to it: the prompt ends before it.
        labels = [
            token if begin - (text[begin - 1] == " ") < stop and start <= end and start != stop else -100
            for token, (start, stop) in zip(plain["input_ids"], plain["offset_mapping"], strict=True)
        ]
        counted = sum(label != -100 for label in labels)
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([plain["input_ids"]]), labels=torch.tensor([labels])).loss
        assert counted == tokens
        assert float(loss) == pytest.approx(nll / tokens, rel=1e-6)


def test_decoded_answers_are_those_of_generate(tokenizer: Any, model: Any) -> None:
    encoder = Encoder(tokenizer, 512)
    prompts, end = encoder.prompts(EXAMPLES), encoder.end_ids[-1]
    pad = int(tokenizer.pad_token_id)
    ours = decode_greedily(model, prompts, Ending((end,), pad, NEW_TOKENS))
    for prompt, tokens in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt])
        plain = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=end,
            pad_token_id=pad,
        )[0, len(prompt) :]  # fmt: skip
        assert encoder.answer_of(tokens).text == tokenizer.decode(plain, skip_special_tokens=True).strip()
