"""Holds the words of one language and how they are joined; formats numbers for both languages."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from medqa_finetune.config.labels import setting_label
from medqa_finetune.evaluation.metrics.base import ScoreWords
from medqa_finetune.languages.choice import chosen
from medqa_finetune.languages.labels import in_words
from medqa_finetune.report.scores import score_info

NAMES_SHOWN = 6


@dataclass(frozen=True)
class Text:
    """The same words in English and Chinese: plain text, which must be escaped for display."""

    en: str
    zh: str

    @property
    def spoken(self) -> str:
        """The words in the reader's language (`languages.choice`)."""
        return self.zh if chosen() == "zh" else self.en

    def __add__(self, other: "Text") -> "Text":
        return Text(f"{self.en} {other.en}".strip(), self.zh + other.zh)


@dataclass(frozen=True)
class Language:
    """The words of one language.

    Attributes:
        code: Language code in the page and in `Text`, e.g. `en`.
        sentences: Words by key, with `{name}` placeholders.
        between_sentences: Separator of sentences.
        between_names: Separator of names.
        between_differences: Separator of differences between cells.
        parts_of_names: This language's words for parts of English labels, e.g. `lr`.
        labels: What cells and series are called, by name; others are called by their names.
    """

    code: str
    sentences: Mapping[str, str]
    between_sentences: str
    between_names: str
    between_differences: str
    parts_of_names: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, key: str | StrEnum, **values: object) -> str:
        """Return the words of a key with the values filled in.

        Raises:
            KeyError: the language lacks the key, or a placeholder has no value.
        """
        return self.sentences[key_of(key)].format(**values)

    def name(self, cell: str | None) -> str:
        """Return what a cell or a series is called; empty for None."""
        return "" if cell is None else in_words(self.labels.get(cell, cell), self.parts_of_names)

    def setting(self, key: str) -> str:
        """Return the short name of a setting, e.g. `lr`; the name of a package, which has no dots, as it is."""
        if "." not in key:
            return key
        return in_words(setting_label(key), self.parts_of_names)

    def score(self, column: str) -> ScoreWords:
        """Return a score's names; its column if it has no name."""
        return score_info(column).words_in(self.code)

    def joined(self, sentences: Iterable[str]) -> str:
        """Join sentences, without empty ones."""
        return self.between_sentences.join(filter(None, sentences))

    def listed(self, names: Sequence[str]) -> str:
        """Join what at most `NAMES_SHOWN` cells are called; state how many more there are."""
        shown = self.between_names.join(map(self.name, names[:NAMES_SHOWN]))
        more = len(names) - NAMES_SHOWN
        return self("names.more", names=shown, more=more, count=len(names)) if more > 0 else shown


def key_of(key: str | StrEnum) -> str:
    """Return the key in `sentences`: `<enum>.<MEMBER>` for an enum member, else the key itself."""
    return f"{type(key).__name__}.{key.name}" if isinstance(key, StrEnum) else key


def signed(value: float) -> str:
    """Format a difference with an explicit sign."""
    return f"{value:+.2f}"


def span(low: float, high: float) -> str:
    """Format an interval from its two bounds."""
    return f"[{low:.2f}, {high:.2f}]"


def amount_of_hours(hours: float) -> str:
    """Format hours: one decimal place from 1 on, two significant digits below."""
    return f"{hours:.1f}" if abs(hours) >= 1 else f"{hours:.2g}"


def amount_of_money(money: float) -> str:
    """Format money: two decimal places from 1 on, two significant digits below (short runs cost less than a cent)."""
    return f"{money:.2f}" if abs(money) >= 1 else f"{money:.2g}"
