"""A sentence in both languages of the report."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """The same sentence in English and in Chinese; plain text, to be escaped by whoever shows it."""

    en: str
    zh: str

    def __add__(self, other: "Text") -> "Text":
        return Text(f"{self.en} {other.en}".strip(), self.zh + other.zh)
