"""The words of one language, and how they are put together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from medqa_finetune.evaluation.metrics.base import ScoreWords
from medqa_finetune.report.scores import score_info

NAMES_SHOWN = 6


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
