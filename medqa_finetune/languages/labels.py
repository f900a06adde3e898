"""Labels of cells in a language: their English parts, such as `lr`, have words there."""

import re
from collections.abc import Iterable, Mapping

from medqa_finetune.languages.choice import LANGUAGES, chosen
from medqa_finetune.languages.zh.drawn import NAMES
from medqa_finetune.languages.zh.report import BETWEEN_NAMES


def in_words(label: str, words: Mapping[str, str]) -> str:
    """Return a label with the parts that a language has words for replaced; they stand between blanks."""
    if not words:
        return label
    pattern = "|".join(re.escape(part) for part in sorted(words, key=len, reverse=True))
    return re.sub(rf"(?<![^\s(])(?:{pattern})(?![^\s)])", lambda found: words[found[0]], label)


def spoken_label(label: str) -> str:
    """Return a cell's label in the chosen language."""
    return label if chosen() == LANGUAGES[0] else in_words(label, NAMES)


def joined(names: Iterable[str]) -> str:
    """Return names in a row, separated as in the chosen language."""
    return (", " if chosen() == LANGUAGES[0] else BETWEEN_NAMES).join(names)
