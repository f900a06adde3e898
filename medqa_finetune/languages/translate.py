"""Finds the Chinese for an English text, which may have values in it.

A fault's words are made where it is found, with its values in them, and nothing there knows of languages. So the
catalogue's English is compared with the finished text: `must be at most {most}` is the pattern of `must be at most 8`.
"""

import dataclasses
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache, cached_property

from medqa_finetune.languages.choice import LANGUAGES, chosen

# `{kind!}` stands for words, which need a translation too, `{path}` for anything.
PLACEHOLDER = re.compile(r"\{(\w+)(!?)\}")
# The end of a sentence inside a text.
BETWEEN_SENTENCES = re.compile(r"(?<=[.?!]) +(?=[A-Z`\[])")
# Values in values in values: a text holds a library's words at most so deep.
DEPTH = 4


@dataclasses.dataclass(frozen=True)
class Template:
    """An English text with placeholders, and its Chinese."""

    english: str
    chinese: str

    @cached_property
    def literals(self) -> list[str]:
        """The parts between placeholders."""
        return PLACEHOLDER.split(self.english)[::3]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches texts made from it."""
        groups = [f"(?P<{name}>.+?)" for name, _ in PLACEHOLDER.findall(self.english)] + [""]
        parts = (re.escape(literal) + group for literal, group in zip(self.literals, groups, strict=True))
        return re.compile("".join(parts), re.DOTALL)

    @cached_property
    def words(self) -> list[str]:
        """Names of the placeholders that stand for words."""
        return [name for name, mark in PLACEHOLDER.findall(self.english) if mark]

    def values(self, text: str) -> dict[str, str] | None:
        """Return the values of the placeholders in a text; None for a text that is not made from it."""
        if not all(literal in text for literal in self.literals):
            return None
        found = self.pattern.fullmatch(text)
        return None if found is None else found.groupdict()

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the Chinese with values."""
        return PLACEHOLDER.sub(lambda found: values[found[1]], self.chinese)


class Catalogue:
    """Chinese texts by English ones.

    Args:
        texts: English texts and their Chinese.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._exact = texts
        templates = [Template(english, chinese) for english, chinese in texts.items() if PLACEHOLDER.search(english)]
        # Of several that match, the one with the most words of its own says the most.
        self._templates = sorted(templates, key=lambda each: -sum(map(len, each.literals)))

    def find(self, text: str, depth: int = DEPTH) -> str | None:
        """Return the Chinese of a text; None where a sentence of it has none."""
        if (whole := self._exact.get(text)) is not None and not PLACEHOLDER.search(text):
            return whole
        sentences = BETWEEN_SENTENCES.split(text)
        if len(sentences) > 1:
            found = [self._of_sentence(sentence, depth) for sentence in sentences]
            if all(found):
                return "".join(filter(None, found))
        return self._of_sentence(text, depth)

    def exact(self, template: str) -> str | None:
        """Return the Chinese of a text that is in the catalogue as it stands; None for others."""
        return self._exact.get(template)

    def with_other_placeholders(self) -> list[str]:
        """Return the English texts whose Chinese has other placeholders, or has one twice in the English."""

        def names(text: str) -> list[str]:
            return sorted(found[1] for found in PLACEHOLDER.finditer(text))

        return [text for text, chinese in self._exact.items() if names(text) != names(chinese)]

    def _of_sentence(self, text: str, depth: int) -> str | None:
        if text in self._exact:
            return self._exact[text]
        for template in self._templates if depth else ():
            values = template.values(text)
            if values is not None:
                found = {name: self.find(value, depth - 1) for name, value in values.items()}
                if all(found[name] for name in template.words):
                    return template.filled({name: found[name] or value for name, value in values.items()})
        return None


class Kind(StrEnum):
    """Kinds of texts, each with a catalogue of its own: a pattern of one would match texts of another by accident."""

    FAULT = "fault"
    HELP = "help"
    LOG = "log"
    SAID = "said"


@cache
def catalogue(kind: Kind) -> Catalogue:
    """Return the Chinese texts of a kind."""
    from medqa_finetune.languages.zh import doctor, faults, help_pages, logged, terminal

    match kind:
        case Kind.FAULT:
            return Catalogue(faults.TEXTS)
        case Kind.HELP:
            return Catalogue(help_pages.TEXTS)
        case Kind.LOG:
            # A log line may be a fault.
            return Catalogue({**faults.TEXTS, **logged.TEXTS})
        case Kind.SAID:
            return Catalogue({**terminal.TEXTS, **doctor.TEXTS})


def translation(text: str, kind: Kind) -> str | None:
    """Return a text in the chosen language; None where it has no translation."""
    return text if chosen() == LANGUAGES[0] else catalogue(kind).find(text)


def translated(text: str, kind: Kind) -> str:
    """Return a text in the chosen language; in English where it has no translation."""
    return translation(text, kind) or text


def say(template: str, **values: object) -> str:
    """Return an English template in the chosen language, with its values."""
    words = template if chosen() == LANGUAGES[0] else catalogue(Kind.SAID).exact(template) or template
    return words.format(**values)
