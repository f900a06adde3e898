"""Cleans a text: removes traces of markup, encodings and copying, but nothing that a reader would miss.

The rules stand in docs/data.md; whoever changes one here changes it there.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from html.entities import html5
from itertools import takewhile
from types import MappingProxyType
from typing import NamedTuple

# Attributes that HTML knows: `p<b and c>0` is a comparison. Their names are Latin, so `a<b 且 b>c` is one too.
_NAMES = (
    r"align|alt|background|bgcolor|border|cellpadding|cellspacing|charset|class|clear|color|cols|colspan|dir|face"
    r"|frame|frameborder|height|href|hspace|id|lang|media|name|rel|role|rows|rowspan|rules|scope|scrolling|size|src|start"
    r"|style|summary|tabindex|target|title|type|valign|value|vspace|width|(?:aria|data|mce)-[a-z0-9-]+|[a-z]+:[a-z]+"
    r"|on(?:abort|blur|change|click|dblclick|error|focus|key[a-z]+|load|mouse[a-z]+|select|submit|touch[a-z]+|unload)"
)
_VALUE = r"""\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s<>"']+)"""
_FLAGS = r"checked|compact|disabled|download|hidden|noshade|nowrap|readonly|reversed|selected"
_ATTRIBUTES = rf"""(?:\s+(?:(?:{_NAMES}){_VALUE}|(?:{_FLAGS})(?:{_VALUE})?)){{0,20}}\s*/?>"""
# Cells of a table, and what begins or ends a line of its own without a tag for the line's end.
CELL_TAG = re.compile(r"<(?:td|th)" + _ATTRIBUTES, re.IGNORECASE)
BLOCK_TAG = re.compile(r"</?(?:center|div|h[1-6]|hr|li|ol|p|pre|table|tr|ul)" + _ATTRIBUTES, re.IGNORECASE)
LINE_BREAK_TAG = re.compile(r"<(?:br|/p|/div|/li|/tr)" + _ATTRIBUTES, re.IGNORECASE)
# A list of names, so that `<user>:` and `<think>` stay.
SIMPLE_TAG = re.compile(
    r"</?(?:a|b|big|center|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|s|small|span|strong|sub|sup|table|tbody"
    r"|td|th|thead|tr|u|ul)" + _ATTRIBUTES,
    re.IGNORECASE,
)
# Tags that may as well be a variable between two signs, as in `a<b>c`.
ONE_LETTER = re.compile(r"<([abipsu])>", re.IGNORECASE)
# Powers and indices that plain text has characters for: without them, 10<sup>9</sup>/L is 109/L.
SCRIPT = re.compile(rf"<(su[pb]){_ATTRIBUTES}((?:(?!</?su[pb]\b)[^\n]){{0,80}})</\1\s*>", re.IGNORECASE)
RAISED, LOWERED = (
    str.maketrans("0123456789+-−()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾"),
    str.maketrans("0123456789+-−()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₍₎"),
)
HAS_CHARACTERS = re.compile(r"[0-9+\-−()]+")
# Of other powers and indices plain text keeps the sign: 10^9.5, 2^n, V_max. Marks and endings need none: 5th, a*, a[1].
NEEDS_SIGN = re.compile(r"(?!(?:st|nd|rd|th|tm)\Z)[0-9A-Za-z\u0370-\u03ff０-９+\-−.(]", re.IGNORECASE)
IS_SUM = re.compile(r"[^\s+\-−]\s*[+\-−]")
# A tag of a power that is never closed, between two numbers.
OPEN_SCRIPT = re.compile(r"(?<=[0-9])<(su[pb])" + _ATTRIBUTES + r"(?=\s*[+\-−]?[0-9])", re.IGNORECASE)
NESTED = 3
# Whoever writes these shows the source of a page, whose tags are meant.
PAGE = re.compile(r"<!doctype|</?(?:html|head|body)\b", re.IGNORECASE)
CLOSING_LETTER = re.compile(r"</([abipsu])\s*>", re.IGNORECASE)
OPERAND = re.compile(r"[A-Za-z0-9)\]]\s*\Z")
BLANKS = " \t\u3000"
# Stands for a < that is no tag's, while tags are removed; control characters are gone by then.
SIGN = "\x00"
# Stand for the boundary of a cell and of a block, until it is known what is next to them.
CELL, BLOCK = "\x01", "\x02"
BOUNDARIES = re.compile(
    rf"(?P<before>\A|\n[{BLANKS}]*|[{BLANKS}])?(?P<run>[{CELL}{BLOCK}](?:[{BLANKS}]*[{CELL}{BLOCK}])*)"
)
REST_OF_LINE = re.compile(rf"[{BLANKS}]*(?:\n|\Z)")
# HTML resolves some entities without a semicolon too, but `&copy=1` belongs to an address.
ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# Code between marks of Markdown; a fence that is never closed reaches to the end.
CODE = re.compile(r"((?m:^)[ \t]*(?P<fence>```+|~~~+).*?(?:\n[ \t]*(?P=fence)|\Z)|`[^`\n]+`)", re.DOTALL)
# The marks by which chat templates separate turns: `<|im_end|>`, `<|endoftext|>`; some models' are full-width.
CHAT_TOKEN = re.compile(r"<([|｜])([^<>|｜\s]{1,60})([|｜])>")
# Control characters but tab and line feed, soft hyphen, zero-width and direction marks, private use, byte-order mark.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ue000-\uf8ff\ufeff\ufff9-\ufffb\U000e0001-\U000e007f\U000f0000-\U0010ffff"
)
INVISIBLE = re.compile(f"[{_INVISIBLE}]+")
OTHER_BREAK = re.compile("\r\n|[\r\v\f\x85]")
# The look behind keeps a long run of blanks from being tried from each of its characters.
BLANKS_AT_END = re.compile(f"(?<![{BLANKS}])[{BLANKS}]+$", re.MULTILINE)
BLANK_LINES_BEFORE = re.compile(r"\A\s*\n")
INDENTATION = re.compile(f"^[{BLANKS}]*(?=[^{BLANKS}\n])", re.MULTILINE)
# Characters that any pattern above needs. Most texts contain none, so that one search is enough.
SUSPICIOUS = re.compile(f"[&<\r\v\f\x85\u00a0{_INVISIBLE}]|[{BLANKS}]\n")


class Cleaned(NamedTuple):
    """A cleaned text.

    Attributes:
        text: Without blanks at its ends.
        changes: What was done, by name: the number of chat tokens made harmless; 1 for anything else.
    """

    text: str
    changes: Mapping[str, int]


NOTHING: Mapping[str, int] = MappingProxyType({})


def clean(text: str, *, markup: bool = True) -> Cleaned:
    """Return a text cleaned, with what was changed.

    Line ends become line feeds; blanks at line ends, blank lines at both ends, and indentation that all lines share are
    removed. Other indentation, blanks between words and blank lines inside stay. With `markup`, HTML entities and
    simple tags are resolved outside of code and of the source of whole pages. Unicode is composed (NFC: unlike NFKC it
    keeps ℃, ② and full-width punctuation), invisible characters are removed. A chat token gets spaces inside its
    brackets, so that no tokenizer takes it for the end of a turn.
    """
    composed = unicodedata.is_normalized("NFC", text)
    suspicious = SUSPICIOUS.search(text) is not None
    if composed and not suspicious and text == text.strip():
        return Cleaned(text, NOTHING)  # most texts
    changes = Counter[str]()
    if not composed:
        text = _noted("unicode_composed", text, unicodedata.normalize("NFC", text), changes)
    if suspicious:
        if markup and PAGE.search(text):
            markup, changes["html_pages_kept"] = False, 1
        if markup and "&" in text:
            text = _noted("html_entities_resolved", text, _outside_code(text, _resolved), changes)
        text = _noted("line_ends_unified", text, OTHER_BREAK.sub("\n", text), changes)
        text = _noted("invisible_characters_removed", text, INVISIBLE.sub("", text), changes)
        if "<" in text:
            if markup:
                text = _noted("html_tags_removed", text, _outside_code(text, _without_tags), changes)
            text, tokens = CHAT_TOKEN.subn(r"<\1 \2 \3>", text)
            changes.update({"chat_tokens_neutralised": tokens} if tokens else {})
        text = _noted("no_break_spaces_replaced", text, text.replace("\u00a0", " "), changes)
        text = _noted("blanks_at_line_ends_removed", text, BLANKS_AT_END.sub("", text), changes)
        # Again: removed characters or an entity may have separated a letter from its accent.
        text = unicodedata.normalize("NFC", text)
    return Cleaned(_noted("outer_blanks_removed", text, _without_outer_blanks(text), changes), changes)


def _noted(name: str, before: str, after: str, changes: Counter[str]) -> str:
    if after != before:
        changes[name] = 1
    return after


def _without_outer_blanks(text: str) -> str:
    stripped = text.strip()
    if text[:1].isspace() and "\n" in stripped:
        text = BLANK_LINES_BEFORE.sub("", text).rstrip()
        # Code or a list whose first line is indented: all its lines move to the left alike.
        found = INDENTATION.findall(text)
        least, greatest = min(found), max(found)
        same = takewhile(lambda pair: pair[0] == pair[1], zip(least, greatest, strict=False))
        shared = "".join(blank for blank, _ in same)
        stripped = re.sub(f"^{shared}", "", text, flags=re.MULTILINE) if shared else text
    return stripped


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    if "`" not in text and "~~~" not in text:
        return change(text)
    pieces, end = [], 0
    for code in CODE.finditer(text):
        pieces += [change(text[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*pieces, change(text[end:])])


def _resolved(text: str) -> str:
    return ENTITY.sub(_character, text)


def _character(entity: re.Match[str]) -> str:
    name = entity.group()
    return html.unescape(name) if name[1] == "#" or name[1:] in html5 else name


def _without_tags(text: str) -> str:
    # Where the last closing tag of each letter is.
    closed = {tag[1].lower(): tag.start() for tag in CLOSING_LETTER.finditer(text)}

    def without(tag: re.Match[str]) -> str:
        letter = tag[1].lower()
        if closed.get(letter, -1) > tag.start():
            return BLOCK if letter == "p" else ""
        # An old-fashioned <p> begins a paragraph; behind a letter or a number it is a comparison.
        begins = letter == "p" and not OPERAND.search(text[max(0, tag.start() - 9) : tag.start()])
        return "\n" if begins else f"{SIGN}{tag[1]}>"

    text = LINE_BREAK_TAG.sub("\n", ONE_LETTER.sub(without, _with_scripts(text)))
    text = BLOCK_TAG.sub(BLOCK, CELL_TAG.sub(CELL, text))
    text = SIMPLE_TAG.sub("", text)
    return BOUNDARIES.sub(_boundary, text).replace(SIGN, "<")


def _with_scripts(text: str) -> str:
    """Write powers and indices in the characters that there are for them, and others with a sign."""
    for _ in range(NESTED):
        text, n = SCRIPT.subn(_script, text)
        if not n:
            break
    return OPEN_SCRIPT.sub(lambda tag: "^" if tag[1][2] in "pP" else "_", text)


def _script(script: re.Match[str]) -> str:
    is_raised = script[1][2] in "pP"
    bare = SIMPLE_TAG.sub("", script[2]).strip()
    if HAS_CHARACTERS.fullmatch(bare):
        return bare.translate(RAISED if is_raised else LOWERED)
    if not NEEDS_SIGN.match(bare):
        return bare
    return ("^" if is_raised else "_") + (f"({bare})" if IS_SUM.search(bare) else bare)


def _boundary(found: re.Match[str]) -> str:
    """Return what a boundary leaves: a line break at that of a block, a blank between cells, once each."""
    before = found["before"]
    at_line_start = before is not None and (before == "" or before[0] == "\n")
    if at_line_start or REST_OF_LINE.match(found.string, found.end()):
        return before or ""
    if BLOCK in found["run"]:
        return "\n"
    return before or "" if found.string[found.end()] in BLANKS else " "
