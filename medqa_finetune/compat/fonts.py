"""Finds a font with Chinese characters for charts, also one that was installed after matplotlib listed the fonts."""

import sys
from collections.abc import Iterable
from functools import cache

from matplotlib import font_manager
from matplotlib.font_manager import fontManager

from medqa_finetune.languages.choice import chosen
from medqa_finetune.languages.translate import say

LATIN_FONT = "DejaVu Sans"
# Preferred ones; matplotlib before 3.11 knows of a collection only its first face, the Japanese one.
CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "STHeiti", "SimHei",
    "Noto Sans CJK JP",
)  # fmt: skip
# Simplified characters that fonts for other languages lack.
SAMPLE = "医疗药这"
FIRST_BEYOND_ASCII = 0x80
# A font of matplotlib with a box for every character there is.
LAST_RESORT = "Last Resort"
INSTALL = {
    "linux": "`apt install fonts-noto-cjk` or `dnf install google-noto-sans-cjk-fonts`",
    "darwin": "`brew install --cask font-noto-sans-cjk-sc`",
    "win32": "the Windows feature “Chinese (Simplified) Supplemental Fonts”",
}


def fonts() -> list[str]:
    """Return font families for charts: the default one, then a Chinese one if this machine has any."""
    chinese = chinese_font()
    return [LATIN_FONT, *([chinese] if chinese else [])]


def picture_language() -> str:
    """Return the language of pictures: the reader's, if a font on this machine has its characters."""
    return "zh" if chosen() == "zh" and chinese_font() is not None else "en"


@cache
def chinese_font() -> str | None:
    """Return the family of a font with simplified Chinese characters; None if this machine has none.

    matplotlib keeps a list of fonts on disk. If that list has no such font, the machine's fonts are looked through
    again, and new ones are added for this process.
    """
    found = _preferred()
    if found is None and _add_new():
        found = _preferred()
    return found or _any_other()


def missing_font(texts: Iterable[str], *, chinese: bool = False) -> str | None:
    """Return what to do about Chinese characters that pictures cannot show; None if they can, or there are none.

    Args:
        texts: Names in the pictures.
        chinese: Whether the reader wants them in Chinese.
    """
    if chinese_font() is not None or not (chinese or any(not text.isascii() for text in texts)):
        return None
    install = INSTALL.get(sys.platform, INSTALL["linux"])
    return say(
        "no font with Chinese characters is installed, so pictures have English words, and \\uXXXX for Chinese names: "
        "install {font} ({install}), then summarize again",
        font=CHINESE_FONTS[0],
        install=install,
    )


def undrawable(text: str) -> set[str]:
    """Return the characters of a text that no font of charts has."""
    return set() if text.isascii() else {letter for letter in text if ord(letter) >= FIRST_BEYOND_ASCII} - _characters()


def escaped(text: str) -> str:
    """Return a text with `\\uXXXX` for each character that no font of charts has."""
    missing = undrawable(text)
    return "".join(each.encode("ascii", "backslashreplace").decode() if each in missing else each for each in text)


@cache
def _characters() -> frozenset[str]:
    paths = (font_manager.findfont(family) for family in fonts())
    return frozenset(chr(code) for path in paths for code in font_manager.get_font(path).get_charmap())


def _preferred() -> str | None:
    families = {entry.name for entry in fontManager.ttflist}
    return next((name for name in CHINESE_FONTS if name in families), None)


def _any_other() -> str | None:
    entries = (entry for entry in fontManager.ttflist if not entry.name.startswith(LAST_RESORT))
    return next((entry.name for entry in entries if _has_sample(entry.fname)), None)


def _add_new() -> bool:
    known = {entry.fname for entry in fontManager.ttflist}
    added = False
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
            except (OSError, RuntimeError, ValueError):
                continue
            added = True
    return added


def _has_sample(path: str) -> bool:
    try:
        characters = font_manager.get_font(path).get_charmap()
    except (OSError, RuntimeError, ValueError):
        return False
    return all(ord(letter) in characters for letter in SAMPLE)
