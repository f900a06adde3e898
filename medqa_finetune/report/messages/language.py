"""The words of one language, how they are put together, and how numbers are written in both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from medqa_finetune.evaluation.metrics.base import ScoreWords
from medqa_finetune.report.scores import score_info

NAMES_SHOWN = 6


@dataclass(frozen=True)
class Text:
    """The same words in English and in Chinese: plain text, to be escaped where it is shown."""

    en: str
    zh: str

    def __add__(self, other: "Text") -> "Text":
        return Text(f"{self.en} {other.en}".strip(), self.zh + other.zh)


@dataclass(frozen=True)
class Language:
    """The words of one language.

    Attributes:
        code: As it is called in the page and in `Text`, e.g. `en`.
        sentences: Words by key, with `{names}` for what is put in.
        between_sentences: What stands between two sentences.
        between_names: What stands between two names.
        between_differences: What stands between two things that cells differ in.
    """

    code: str
    sentences: Mapping[str, str]
    between_sentences: str
    between_names: str
    between_differences: str

    def __call__(self, key: str | StrEnum, **values: object) -> str:
        """Return words with the values put in.

        Raises:
            KeyError: the language has no such words, or they have a place for which there is no value.
        """
        return self.sentences[key_of(key)].format(**values)

    def score(self, column: str) -> ScoreWords:
        """Return what a score is called; its column where it has no name."""
        return score_info(column).words_in(self.code)

    def joined(self, sentences: Iterable[str]) -> str:
        """Return sentences one after the other, without the empty ones."""
        return self.between_sentences.join(filter(None, sentences))

    def listed(self, names: Sequence[str]) -> str:
        """Return names one after the other, the first of them where there are many."""
        shown, more = self.between_names.join(names[:NAMES_SHOWN]), len(names) - NAMES_SHOWN
        return self("names.more", names=shown, more=more, count=len(names)) if more > 0 else shown


def key_of(key: str | StrEnum) -> str:
    """Return the key of words: `<enum>.<MEMBER>` of an enum member, else the key itself."""
    return f"{type(key).__name__}.{key.name}" if isinstance(key, StrEnum) else key


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.2f}"


def span(low: float, high: float) -> str:
    """Return an interval."""
    return f"[{low:.2f}, {high:.2f}]"


def amount_of_hours(hours: float) -> str:
    """Return hours with two significant digits."""
    return f"{hours:.1f}" if abs(hours) >= 1 else f"{hours:.2g}"


def amount_of_money(money: float) -> str:
    """Return money; runs of minutes cost less than a cent, which is not nothing."""
    return f"{money:.2f}" if abs(money) >= 1 else f"{money:.2g}"
