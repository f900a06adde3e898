"""Chinese found by finished English texts."""

import pytest

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.languages.choice import VARIABLE
from medqa_finetune.languages.translate import Catalogue, Kind, catalogue

TEXTS = {
    "must be {kind!}": "必须是{kind}",
    "must be at most {most}": "至多为 {most}",
    "an integer": "整数",
    "Give {key}=VALUE.": "请给出 {key}=值。",
    "a file {problem!}": "文件{problem}",
    "Stop.": "停。",
    "{count} rows, {other} of {count2}": "{count2} 中的 {other}，共 {count} 行",
}


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("must be an integer", "必须是整数"), ("must be x", None), ("must be at most 8", "至多为 8"),
        ("Give a.b=VALUE. Stop.", "请给出 a.b=值。停。"), ("Give a.b=VALUE. Go on.", None), ("go on", None),
        ("a file must be an integer", "文件必须是整数"), ("3 rows, 1 of 2", "2 中的 1，共 3 行"), ("Stop", None),
    ],
)  # fmt: skip
def test_values_move_into_the_translation(english: str, chinese: str | None) -> None:
    assert Catalogue(TEXTS).find(english) == chinese


@pytest.mark.parametrize("kind", Kind)
def test_translations_have_the_same_placeholders(kind: Kind) -> None:
    assert catalogue(kind).with_other_placeholders() == []


def test_a_fault_without_translation_is_whole_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "zh")
    fault = Fault("x", "unknown value", key="a", got="b", allowed=("c", "d"), hint="Xyzzy plugh.")
    assert fault.shown_line() == "a=b: unknown value；可选值：c、d。Xyzzy plugh."
    assert fault.but(hint="").shown_line() == "a=b: 没有这个取值；可选值：c、d。"


def test_only_what_is_shown_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "zh")
    error = ConfigError(Fault("not-allowed", "unknown value", key="a", got="b"))
    assert "没有这个取值" in error.shown()
    assert "unknown value" in str(error)
    assert error.as_json()["faults"][0]["message"] == "a=b: unknown value."
