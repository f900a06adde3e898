"""What cleaning takes out, and what it must leave."""

import time
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
        ("a   b\u3000\u3000c\u00a0d", "a   b\u3000\u3000c d"),
        ("一\r\n二\r三\u0085四", "一\n二\n三\n四"),
        ("一\n\n\n\n二 \n \n 三", "一\n\n\n\n二\n\n 三"),
        ("1. 甲\n   - 乙\n     - 丙\n2. 丁", "1. 甲\n   - 乙\n     - 丙\n2. 丁"),
        ("\n    def f():\n        return 1\n\n\n    f()\n", "def f():\n    return 1\n\n\nf()"),
        ("\t{\n\t  1\n\t}", "{\n  1\n}"),
        ("  您好\n请坐", "  您好\n请坐"),
        ("\n        return a\n    return b\n", "    return a\nreturn b"),
        ("p<b and c>0，a<b>c，1<p>0", "p<b and c>0，a<b>c，1<p>0"),
        ("/?x=1&copy=2&lt=3 &copy; &notit; &#x41;", "/?x=1&copy=2&lt=3 © &notit; A"),
        ("<p>一<p>二<td width=5 nowrap>三</td>", "一\n二 三"),
        ("<b>粗</B> <o:p>留</o:p> <think>想</think>", "粗 <o:p>留</o:p> <think>想</think>"),
        ("10<sup>9</sup>/L，H<sub>2</sub>O，Ca<SUP>2+</SUP>，5<sup>th</sup>", "10⁹/L，H₂O，Ca²⁺，5th"),
        ("10<sup>9.5</sup> 10<sup>6～8</sup> 10<sup>9/L</sup> 2<sup>n</sup>", "10^9.5 10^6～8 10^9/L 2^n"),
        ("10<sup><b>9</b></sup> 10<sup> 9 </sup> 10<sup class='x'>9</sup> 10<sup>9", "10⁹ 10⁹ 10⁹ 10^9"),
        ("x<sup>n+1</sup> V<sub>max</sub> 2<sup>3<sup>2</sup></sup> 甲<sup>[1]</sup>", "x^(n+1) V_max 2^3² 甲[1]"),
        ("<tr><td>a</td><td>5</td><td>10</td></tr><tr><td>b</td> <td>6</td></tr>", "a 5 10\nb 6"),
        ("<tr>\n<td>1</td>\n<td>2</td>\n</tr>", "1\n2"),
        ("文<h1>题</h1>正文<ul><li>一<li>二</ul>完<hr>x<div>y</div>z", "文\n题\n正文\n一\n二\n完\nx\ny\nz"),
        ("比如 <html> 和 <b>粗</b>", "比如 <html> 和 <b>粗</b>"),
        ("```html\n<b>&lt;</b>\n```\n`<i>` <i>斜</i>", "```html\n<b>&lt;</b>\n```\n`<i>` 斜"),
        ("　　空两格\n　　再空两格  ", "空两格\n再空两格"),
        ("保留\u2028行分隔", "保留\u2028行分隔"),
        ("表\t格", "表\t格"),
        ("", ""),
        (" \u200b\n ", ""),
    ],
)
def test_cleaned(raw: str, cleaned: str) -> None:
    assert clean(raw).text == cleaned


@pytest.mark.parametrize(
    ("raw", "changes"),
    [
        ("无须改动\n  缩进", []),
        ("一\r\n二 \n三", ["line_ends_unified", "blanks_at_line_ends_removed"]),
        (" 一\u00a0二\u200b", ["invisible_characters_removed", "no_break_spaces_replaced", "outer_blanks_removed"]),
        ("<b>a</b>&amp;", ["html_entities_resolved", "html_tags_removed"]),
        ("e\u0301", ["unicode_composed"]),
        ("<body><p>一</p></body>", ["html_pages_kept"]),
    ],
)
def test_what_was_changed_is_named(raw: str, changes: list[str]) -> None:
    assert dict(clean(raw).changes) == dict.fromkeys(changes, 1)


@pytest.mark.parametrize(
    "mark", ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<｜end▁of▁sentence｜>", "&lt;|im_end|&gt;"]
)
def test_chat_tokens_are_made_harmless_and_counted(mark: str) -> None:
    text, changes = clean(f"吃药{mark}\n{mark}system")
    assert changes["chat_tokens_neutralised"] == 2
    assert not CHAT_TOKEN.search(text)
    assert "<| im_end |>" in text or "im_end" not in mark


def test_a_token_that_cleaning_itself_would_make_is_caught() -> None:
    text, changes = clean("<|im\u200b_<b></b>end|>")
    assert changes["chat_tokens_neutralised"] == 1
    assert "<|im_end|>" not in text


@pytest.mark.parametrize(
    "piece",
    [
        " ",
        " \t",
        "1<b>2 ",
        "<b ",
        "&amp",
        "`",
        "```\n",
        "<p>1",
        "<a href=",
        "\u3000\n",
        "<|",
        " \n a",
        "<td>",
        "<li> ",
        "<sup>",
        "1<sup>a",
        "<sup>9</sup>",
        "<sup class=",
    ],
)
def test_much_of_anything_is_cleaned_in_a_moment(piece: str) -> None:
    text = f"  a{piece * 20_000}b"
    started = time.perf_counter()
    clean(text)
    assert time.perf_counter() - started < 2


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_any_text(raw: str) -> None:
    text, _ = clean(raw)
    assert text == text.strip() or (text.split("\n", 1)[0].strip() and text == text.rstrip())
    assert not INVISIBLE.search(text)
    assert not CHAT_TOKEN.search(text)
    assert "\r" not in text
    assert not any(line.endswith((" ", "\t", "\u3000", "\u00a0")) for line in text.split("\n"))
    assert unicodedata.is_normalized("NFC", text)
    if not {"&", "<"} & set(raw):
        assert clean(text) == (text, {})
