"""Cleans a text: removes traces of markup, encodings and copying, but nothing that a reader would miss."""

import html
import re
import unicodedata

# An attribute has a Latin name: the comparison in `a<b 且 b>c` is no tag.
_ATTRIBUTES = r"""(?:\s+[a-z-]+(?:\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s<>"']+))?){0,20}\s*/?>"""
LINE_BREAK_TAG = re.compile(r"<(?:br|/p|/div|/li|/tr)" + _ATTRIBUTES, re.IGNORECASE)
# A list of names, so that `<user>:` stays.
SIMPLE_TAG = re.compile(
    r"</?(?:a|b|big|body|center|code|div|em|font|h[1-6]|hr|html|i|img|li|ol|p|pre|s|small|span|strong|sub|sup|table|tbody"
    r"|td|th|thead|tr|u|ul)" + _ATTRIBUTES,
    re.IGNORECASE,
)
# The marks by which chat templates separate turns: `<|im_end|>`, `<|endoftext|>`; some models' are full-width.
CHAT_TOKEN = re.compile(r"<([|｜])([^<>|｜\s]{1,60})([|｜])>")
# Control characters but tab and line feed, soft hyphen, zero-width and direction marks, private use, byte-order mark.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ue000-\uf8ff\ufeff\ufff9-\ufffb\U000e0001-\U000e007f\U000f0000-\U0010ffff"
)
INVISIBLE = re.compile(f"[{_INVISIBLE}]+")
OTHER_BREAK = re.compile("\r\n|[\r\v\f\x85]")
SPACES = re.compile("[ \u00a0\u3000]{2,}|\u00a0")
SPACES_AT_BREAK = re.compile("[ \t\u3000]*\n[ \t\u3000]*")
BREAKS = re.compile("\n{3,}")
# Characters that any pattern above needs. Most texts contain none, so that one search is enough.
SUSPICIOUS = re.compile(f"[&<\r\v\f\x85\u00a0{_INVISIBLE}]|[ \u3000]{{2}}|[ \t\u3000]\n|\n[ \t\u3000]|\n\n\n")


def clean(text: str) -> tuple[str, int]:
    """Return a text cleaned, and the number of literal chat tokens in it that were neutralised.

    HTML entities and simple tags are resolved, Unicode composed (NFC: unlike NFKC it keeps ℃, ② and full-width
    punctuation), invisible characters removed, runs of spaces and of line breaks shortened. A chat token gets spaces
    inside its brackets, so that no tokenizer takes it for the end of a turn.
    """
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if not SUSPICIOUS.search(text):
        return text.strip(), 0
    if "&" in text:
        text = html.unescape(text)
    text = INVISIBLE.sub("", OTHER_BREAK.sub("\n", text))
    tokens = 0
    if "<" in text:
        text = SIMPLE_TAG.sub("", LINE_BREAK_TAG.sub("\n", text))
        text, tokens = CHAT_TOKEN.subn(r"<\1 \2 \3>", text)
    text = SPACES_AT_BREAK.sub("\n", SPACES.sub(" ", text))
    # Normalized again: removed characters or an entity may have separated a letter from its accent.
    return unicodedata.normalize("NFC", BREAKS.sub("\n\n", text).strip()), tokens
