"""Holds the words of one language and how they are joined; formats numbers for both languages."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from medqa_finetune.evaluation.metrics.base import ScoreWords
from medqa_finetune.report.scores import score_info

NAMES_SHOWN = 6


@dataclass(frozen=True)
class Text:
    """The same words in English and Chinese: plain text, which must be escaped for display."""

    en: str
    zh: str

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
    """

    code: str
    sentences: Mapping[str, str]
    between_sentences: str
    between_names: str
    between_differences: str

    def __call__(self, key: str | StrEnum, **values: object) -> str:
        """Return the words of a key with the values filled in.

        Raises:
            KeyError: the language lacks the key, or a placeholder has no value.
        """
        return self.sentences[key_of(key)].format(**values)

    def score(self, column: str) -> ScoreWords:
        """Return a score's names; its column if it has no name."""
        return score_info(column).words_in(self.code)

    def joined(self, sentences: Iterable[str]) -> str:
        """Join sentences, without empty ones."""
        return self.between_sentences.join(filter(None, sentences))

    def listed(self, names: Sequence[str]) -> str:
        """Join at most `NAMES_SHOWN` names; state how many more there are."""
        shown, more = self.between_names.join(names[:NAMES_SHOWN]), len(names) - NAMES_SHOWN
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
