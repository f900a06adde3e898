"""Pages of `--help` in Chinese."""

import pytest

from medqa_finetune.languages import help_page as pages
from medqa_finetune.languages.choice import VARIABLE

PAGE = """\
usage: command key=value

Does this
and that.

  command a=1      with one

options:
  a=N              a number (default 1)
  long_option_name=TEXT
                   text of
                   two lines
  b=true|false     one more
groups:
  one=1  two=2
"""
TEXTS = {
    "Does this and that.": "做这做那。",
    "with one": "取一",
    "options:": "选项：",
    "text of two lines": "两行 字" * 30,
}


def test_forms_stay_and_words_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "zh")
    monkeypatch.setattr(pages, "translation", lambda text, kind: TEXTS.get(text))
    lines = pages.help_page(PAGE).split("\n")
    assert lines[:9] == [
        "用法：command key=value",
        "",
        "做这做那。",
        "",
        "  command a=1      取一",
        "",
        "选项：",
        "  a=N              a number（默认 1）",
        "  long_option_name=TEXT",
    ]
    assert "".join(line.strip() for line in lines[9:-4]).replace(" ", "") == "两行字" * 30
    assert lines[-4:] == ["  b=true|false     one more", "groups:", "  one=1  two=2", ""]
    assert all(pages.columns(line) <= pages.WIDTH for line in lines)


def test_texts_are_what_needs_a_translation() -> None:
    assert pages.texts_of(PAGE) == [
        "Does this and that.", "with one", "options:", "a number", "text of two lines", "one more", "groups:",
    ]  # fmt: skip
