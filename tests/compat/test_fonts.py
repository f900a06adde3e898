"""Fonts with Chinese characters: found afresh, or named with what to install."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib import font_manager

from medqa_finetune.compat import fonts


@dataclass
class Entry:
    name: str
    fname: str


class Manager:
    """The fonts that matplotlib has listed, and what it finds in files."""

    def __init__(self, *entries: Entry, found: dict[str, str] | None = None) -> None:
        self.ttflist = list(entries)
        self.found = found or {}

    def addfont(self, path: str) -> None:
        if path not in self.found:
            raise RuntimeError("not a font")
        self.ttflist.append(Entry(self.found[path], path))


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    fonts.chinese_font.cache_clear()
    yield
    fonts.chinese_font.cache_clear()


def listed(monkeypatch: pytest.MonkeyPatch, manager: Manager, paths: tuple[str, ...] = ()) -> None:
    monkeypatch.setattr(fonts, "fontManager", manager)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(paths))
    monkeypatch.setattr(fonts, "_has_sample", lambda path: "han" in Path(path).name)


def test_a_font_that_is_newer_than_the_list_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(Entry("DejaVu Sans", "/a.ttf"), found={"/new.ttc": "Noto Sans CJK SC"})
    listed(monkeypatch, manager, ("/a.ttf", "/torn.ttf", "/new.ttc"))
    assert fonts.chinese_font() == "Noto Sans CJK SC"
    assert fonts.fonts() == ["DejaVu Sans", "Noto Sans CJK SC"]
    assert fonts.missing_font(["医疗"]) is None


def test_a_font_of_another_name_is_known_by_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Entry("Last Resort High-Efficiency", "/han-of-all.ttf")
    listed(monkeypatch, Manager(last, Entry("Unheard Of", "/han.ttf")))
    assert fonts.chinese_font() == "Unheard Of"


def test_a_missing_font_is_named_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed(monkeypatch, Manager(Entry("DejaVu Sans", "/a.ttf")))
    assert fonts.missing_font(["lora_20k"]) is None
    said = fonts.missing_font(["lora_20k", "医疗"])
    assert said is not None
    assert "Noto Sans CJK SC" in said


def test_characters_are_read_from_the_font_itself() -> None:
    assert not fonts._has_sample(font_manager.findfont("DejaVu Sans"))
