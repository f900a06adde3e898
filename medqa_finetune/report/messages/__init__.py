"""Puts the report's outcomes into words, one file per language.

`en` and `zh` hold only words: `SENTENCES` with named placeholders, and separators of sentences and names. Names of
scores come from their metrics. `sentences` decides, for every language, which sentences an outcome has and in which
order. The words of an enum member have the key `<enum>.<MEMBER>`. To add a language, add such a file and a line in
`LANGUAGES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from functools import cache

from medqa_finetune.evaluation.metric_registry import all_scores
from medqa_finetune.evaluation.metrics.base import Better
from medqa_finetune.languages.en import report as en
from medqa_finetune.languages.labels import in_words
from medqa_finetune.languages.zh import report as zh
from medqa_finetune.report.messages import note_sentences
from medqa_finetune.report.messages.language import Language, Text, key_of
from medqa_finetune.report.messages.sentences import Outcome, compared_text, say
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.stats.intervals import Comparison

NO_LABELS: Mapping[str, str] = {}
LANGUAGES: Mapping[str, Language] = {
    code: Language(
        code,
        module.SENTENCES,
        module.BETWEEN_SENTENCES,
        module.BETWEEN_NAMES,
        module.BETWEEN_DIFFERENCES,
        getattr(module, "NAMES", {}),
    )
    for code, module in (("en", en), ("zh", zh))
}


def text(outcome: Outcome, labels: Mapping[str, str] = NO_LABELS) -> Text:
    """Return the words of an outcome in both languages.

    Args:
        outcome: What is said.
        labels: What cells and series are called (`Analysis.labels`); without, they are called by their names.
    """
    return _pair(lambda language: say(outcome, replace(language, labels=labels)))


def name_of(label: str) -> Text:
    """Return a cell's label in both languages."""
    return _pair(lambda language: in_words(label, language.parts_of_names))


def reason(comparison: Comparison) -> Text:
    """Return why two cells do not compare, or the basis of the finding; empty if neither cell was trained."""
    return _pair(lambda language: compared_text(comparison, language))


def label(key: str | StrEnum, **values: object) -> Text:
    """Return the words of a key or enum member; for a value that is a `Text`, each language inserts its own."""

    def words(language: Language) -> str:
        own = {
            name: getattr(value, language.code) if isinstance(value, Text) else value for name, value in values.items()
        }
        return language(key, **own)

    return _pair(words)


def labels_below(prefix: str) -> dict[str, dict[str, str]]:
    """Return the words whose keys start with a prefix, by language and rest of the key, with placeholders unfilled."""
    return {
        code: {key.removeprefix(prefix): words for key, words in language.sentences.items() if key.startswith(prefix)}
        for code, language in LANGUAGES.items()
    }


def score_title(column: str) -> Text:
    """Return a score's name for headings; its column if it has no name."""
    return _pair(lambda language: language.score(column).title)


def score_axis(column: str) -> Text:
    """Return the axis label of a score."""
    return _pair(lambda language: language.score(column).axis)


def panel_title(column: str) -> Text:
    """Return the panel title of a score for the two overview pictures."""
    score, axis = score_info(column), score_axis(column)
    if score.limits == (0, 100):
        return label("overview.panel.percent", score=axis)
    return label("overview.panel", score=axis, better=label(score.better)) if score.better is Better.LOWER else axis


def drawn(words: str) -> Text | None:
    """Return both languages of words drawn in a chart in English; None without a Chinese version.

    The English is what a chart has room for. So a name's parts whose Chinese is wider, such as `lr`, stay; a name that
    is one such part stands alone, as an axis' label.
    """
    known = _drawn_words()
    if words in known:
        return Text(words, known[words])
    parts = LANGUAGES["zh"].parts_of_names
    narrow = {part: own for part, own in parts.items() if part == words or 2 * len(own) <= len(part)}
    named = Text(words, in_words(words, narrow))
    return named if named.zh != words else None


def in_chinese_picture(words: str) -> str:
    """Return the Chinese of words that a chart draws in English, and of all parts of a name."""
    return _drawn_words().get(words) or name_of(words).zh


@cache
def _drawn_words() -> dict[str, str]:
    return {score.words_in("en").axis: score.words_in("zh").axis for score in all_scores().values()} | zh.DRAWN


def _pair(words: Callable[[Language], str]) -> Text:
    return Text(words(LANGUAGES["en"]), words(LANGUAGES["zh"]))


__all__ = [
    "LANGUAGES",
    "Outcome",
    "drawn",
    "in_chinese_picture",
    "key_of",
    "label",
    "labels_below",
    "name_of",
    "note_sentences",
    "panel_title",
    "reason",
    "score_axis",
    "score_title",
    "text",
]
