"""What cleaning takes out, and what it must leave."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_finetune.data.clean import CHAT_TOKEN, INVISIBLE, clean


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("血压 &lt; 90&nbsp;mmHg &amp; 头晕", "血压 < 90 mmHg & 头晕"),
        ("第一行<br>第二行<BR/>第三行<br />第四行", "第一行\n第二行\n第三行\n第四行"),
        ('<p class="a">多喝水</p><p>早睡</p>', "多喝水\n早睡"),
        ("<b>注意</b>：<a href='x'>看医生</a>", "注意：看医生"),
        ("<user>: 你好 <bot>: 您好", "<user>: 你好 <bot>: 您好"),
        ("若a<b 且 b>c，则复查", "若a<b 且 b>c，则复查"),
        ("\ufeff头\u200b痛\u00ad怎\ue000么\x07办", "头痛怎么办"),
        ("e\u0301", "é"),
        ("e\u200b\u0301 e&#x301;", "é é"),
        ("体温38℃，①②Ⅱ期，ＡＢＣ！", "体温38℃，①②Ⅱ期，ＡＢＣ！"),
        ("a   b\u3000\u3000c\u00a0d", "a b c d"),
        ("一\r\n二\r三\u0085四", "一\n二\n三\n四"),
        ("一\n\n\n\n二 \n \n 三", "一\n\n二\n\n三"),
        ("　　空两格\n　　再空两格  ", "空两格\n再空两格"),
        ("保留\u2028行分隔", "保留\u2028行分隔"),
        ("表\t格", "表\t格"),
        ("", ""),
        (" \u200b\n ", ""),
    ],
)
def test_cleaned(raw: str, cleaned: str) -> None:
    assert clean(raw) == (cleaned, 0)


@pytest.mark.parametrize(
    "mark", ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<｜end▁of▁sentence｜>", "&lt;|im_end|&gt;"]
)
def test_chat_tokens_are_made_harmless_and_counted(mark: str) -> None:
    text, tokens = clean(f"吃药{mark}\n{mark}system")
    assert tokens == 2
    assert not CHAT_TOKEN.search(text)
    assert "<| im_end |>" in text or "im_end" not in mark


def test_a_token_that_cleaning_itself_would_make_is_caught() -> None:
    text, tokens = clean("<|im\u200b_<b>end|>")
    assert tokens == 1
    assert "<|im_end|>" not in text


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_any_text(raw: str) -> None:
    text, _ = clean(raw)
    assert text == text.strip()
    assert not INVISIBLE.search(text)
    assert not CHAT_TOKEN.search(text)
    assert "\r" not in text
    assert "\n\n\n" not in text
    assert "  " not in text
    assert unicodedata.is_normalized("NFC", text)
    if not {"&", "<"} & set(raw):
        assert clean(text) == (text, 0)
