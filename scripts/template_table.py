"""Encode dialogues with published chat templates and print a table of what was verified.

    python scripts/template_table.py > docs/templates.md

Each template of TRL's wheel (`pip install trl`) and of `OWN_FORMS` is tried with two kinds of tokenizers
(`scripts/published_templates.py`); the text above the table says what a ✓ means.
"""

import sys
from collections.abc import Mapping
from itertools import product

from medqa_finetune.config.chat_form import ChatForm
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import IGNORED, Encoded, Example
from medqa_finetune.data.template import ChatTemplate
from medqa_finetune.data.thoughts import CLOSING
from medqa_finetune.errors import ModelError
from scripts.published_templates import KINDS, published_templates, tokenizer_for
from scripts.small_models import TEMPLATE

HISTORY = (("你好。", "您好，请讲。"), ("头痛三天了。", "多休息。"))
CASES = {
    "single": Example("1", "发烧怎么办？", "多喝水，\n- 休息\n  - 睡眠"),
    "history": Example("2", "还是痛。", "去医院。", None, HISTORY),
    "system": Example("3", "发烧怎么办？", "多喝水。", "你是医生。"),
    "thought": Example("4", "发烧怎么办？", "<think>\n先想一想。\n</think>\n\n多喝水。"),
}
# Forms that TRL's wheel does not carry.
TAKE_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set messages = messages[1:] %}{% endif %}"
)
OWN_FORMS = {
    "chatml": TEMPLATE,
    "llama2": TAKE_SYSTEM + "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first and system is defined %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}"
    "{{ m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}",
    # Puts the system prompt before the last question.
    "mistral": TAKE_SYSTEM + "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% set last = loop.index0 >= messages|length - 2 %}"
    "{{ '[INST] ' + (system + '\n\n' if system is defined and last else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}",
    "vicuna": "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + ' ' }}"
    "{% elif m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}",
    "no end": "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
}
HEADER = """# Chat templates

`python scripts/template_table.py` wrote this table: it encodes dialogues with every chat template that TRL's wheel
carries of published models (Apache-2.0; not part of this package), and with a few forms of our own, each with a
byte-level tokenizer and with one that puts `▁` in place of spaces. The tokenizers are small ones; the marks of each
template are tokens in them.

✓: the ids are those of the tokenizer's own `apply_chat_template`; the prompt's are the same alone and with the answer;
the labels are the answer with its end token; where the template marks what an assistant generates
(`{% generation %}`), only such tokens are trained. *of 2*: how many earlier answers of a dialogue are trained; the
template renders the others differently once a turn follows, so they are left out and counted. `thought` is an answer
with `<think>…</think>` and `model.thinking=keep`; *added* where the template itself leaves thoughts out.

| template | single | history | system | thought | end |
|---|---|---|---|---|---|"""


def encoded(template: str, kind: str, name: str) -> tuple[Encoder, Encoded]:
    """Encode one of `CASES` with a template and a kind of tokenizer.

    Raises:
        ModelError: the template cannot be trained on with it.
        AssertionError: prompt, labels or end are not what they must be.
    """
    tokenizer, example = tokenizer_for(template, kind), CASES[name]
    encoder = Encoder(tokenizer, 4096, ChatForm(thinks=name == "thought"))
    (item,) = encoder.encode([example])
    learnt = [label for label in item.labels[item.answer_start :] if label != IGNORED]
    answer = encoder.answer_of(learnt)
    found = (encoder.prompts([example])[0], learnt[-1], answer.text, answer.thought, answer.unclosed)
    thought = "先想一想。" if name == "thought" else None
    text = example.answer.rpartition(CLOSING)[2].strip()
    expected = (item.input_ids[: item.answer_start], encoder.end_ids[-1], text, thought, False)
    if found != expected:
        raise AssertionError(f"{kind}, {name}: {found} instead of {expected}")
    return encoder, item


def row_of(template: str) -> dict[str, str]:
    """Return the cells of a template: by case, and its end token."""
    cells: dict[str, str] = {}
    for name, kind in product(CASES, KINDS):
        try:
            encoder, item = encoded(template, kind, name)
        except ModelError as error:
            cells[name] = error.faults[0].line()
            continue
        cells["end"] = f"`{encoder.tokenizer.decode(encoder.end_ids[-1:])}`"
        cells.setdefault(name, _verdict(encoder, item, name))
    return cells


def _verdict(encoder: Encoder, item: Encoded, name: str) -> str:
    if name == "history":
        return f"✓ {len(HISTORY) - item.untrained} of {len(HISTORY)}"
    template = ChatTemplate(encoder.tokenizer, ChatForm(encoder.thinks))
    return "✓" if template.render(CASES[name]).is_own else "✓ added"


def table(templates: Mapping[str, str]) -> str:
    """Return the table as Markdown."""
    lines = [HEADER]
    for name, template in templates.items():
        cells = row_of(template)
        lines.append(
            "| " + " | ".join([name, *(cells.get(key, "–").replace("|", "\\|") for key in (*CASES, "end"))]) + " |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; exit 2 without TRL."""
    published = published_templates()
    if not published:
        print("trl is not installed. Install it with: pip install --no-deps trl==1.16.0", file=sys.stderr)
        return 2
    print(table({name: path.read_text("utf-8") for name, path in published.items()} | OWN_FORMS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
