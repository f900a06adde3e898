"""A sentence in both languages of the report, and numbers as both write them."""

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


def amount_of_hours(hours: float) -> str:
    """Return hours with two significant digits."""
    return f"{hours:.1f}" if abs(hours) >= 1 else f"{hours:.2g}"


def amount_of_money(money: float) -> str:
    """Return money; runs of minutes cost less than a cent, which is not nothing."""
    return f"{money:.2f}" if abs(money) >= 1 else f"{money:.2g}"
