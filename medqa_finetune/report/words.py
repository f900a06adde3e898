"""A sentence in both languages of the report."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """The same sentence in English and in Chinese; plain text, to be escaped by whoever shows it."""

    en: str
    zh: str

    def __add__(self, other: "Text") -> "Text":
        return Text(f"{self.en} {other.en}".strip(), self.zh + other.zh)


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.2f}"


def span(low: float, high: float) -> str:
    """Return an interval."""
    return f"[{low:.2f}, {high:.2f}]"


def listed(names: list[str], most: int = 6) -> Text:
    """Return names one after the other, the first of them where there are many."""
    more = len(names) - most
    en, zh = ", ".join(names[:most]), "、".join(names[:most])
    return Text(f"{en} and {more} more", f"{zh} 等 {len(names)} 个") if more > 0 else Text(en, zh)
