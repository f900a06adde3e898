"""Puts the words of charts, which are drawn in English, into the language and the letters of the file they are for.

The page shows an SVG with all characters, since browsers have fonts of their own, and with words in both languages.
Pictures (PNG, PDF and the SVG beside them) are in the reader's language where a font has its characters. A character
that no font has is written as `\\uXXXX` in PNG and PDF, which hold shapes of letters, not characters.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from unicodedata import east_asian_width

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text as Drawing
from matplotlib.ticker import FuncFormatter

from medqa_finetune.compat.fonts import escaped, picture_language, undrawable
from medqa_finetune.report.messages import in_chinese_picture
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.names import two_lines

# As wide as a Chinese character, and as most others.
WIDE, NARROW = "—", "n"


class Lettering:
    """Replaces the words of one figure.

    Args:
        language: Language of the words.
        letters: Makes what is drawn of words in that language.
    """

    def __init__(self, language: str, letters: Callable[[str], str]) -> None:
        self.language = language
        self._letters = letters
        self._spoken_by: dict[Drawing, str] = {}
        self._axes: list[Axes] = []
        self._restored = False

    def words(self, text: str) -> str:
        """Return what is drawn of a text in English."""
        spoken = self._spoken(text)
        return spoken if self._restored else self._letters(spoken)

    def text(self, words: Text) -> str:
        """Return a text in the language of this figure."""
        return words.zh if self.language == "zh" else words.en

    def letter(self, drawing: Drawing) -> None:
        """Replace the words of one artist."""
        own = drawing.get_text()
        spoken, words = self._spoken(own), self.words(own)
        if words != spoken:
            self._spoken_by[drawing] = spoken
        if words != own:
            drawing.set_text(words)

    def apply(self, figure: Figure) -> None:
        """Replace all words of a figure, now and, of ticks with texts of their own, whenever they are drawn."""
        self._axes = list(figure.findobj(Axes))
        for axes in self._axes:
            for axis in (axes.xaxis, axes.yaxis):
                formatter = axis.get_major_formatter()
                if isinstance(formatter, FuncFormatter):
                    axis.set_major_formatter(self._formatter(formatter))
        for drawing in figure.findobj(Drawing):
            self.letter(drawing)

    @property
    def stands_in(self) -> bool:
        """Whether letters stand for others."""
        return bool(self._spoken_by)

    def restore(self) -> None:
        """Put the words back that the letters stand for; labels of axes have their places once the figure was drawn."""
        self._restored = True
        if self._spoken_by:
            # Otherwise they would move with the boxes that stand for characters that no font has.
            for axes in self._axes:
                _pin_labels(axes)
        for drawing, words in self._spoken_by.items():
            drawing.set_text(words)

    def _spoken(self, text: str) -> str:
        return in_chinese_picture(text) if self.language == "zh" else text

    def _formatter(self, own: FuncFormatter) -> FuncFormatter:
        return FuncFormatter(lambda value, place: self.words(own(value, place)))


CURRENT: ContextVar[Lettering | None] = ContextVar("lettering", default=None)


def for_page() -> Lettering:
    """Return the lettering for the page: English, and where no font has a character, the room that it takes."""
    return Lettering("en", placeholders)


def for_pictures() -> Lettering:
    """Return the lettering for pictures."""
    return Lettering(picture_language(), escaped_label)


@contextmanager
def lettered(lettering: Lettering) -> Iterator[None]:
    """Use a lettering for what is drawn within the block; characters that no font has cause no warning."""
    token = CURRENT.set(lettering)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            yield
    finally:
        CURRENT.reset(token)


def letter(drawing: Drawing) -> None:
    """Replace the words of an artist that is drawn after the figure's layout."""
    if (lettering := CURRENT.get()) is not None:
        lettering.letter(drawing)


def lacks_characters(figure: Figure) -> bool:
    """Return whether a figure has characters that no font has."""
    return any(undrawable(each.get_text()) for each in figure.findobj(Drawing))


def escaped_label(text: str) -> str:
    """Return a text with `\\uXXXX` for characters that no font has; a label is wrapped again."""
    found = escaped(text)
    return two_lines(found) if found != text and two_lines(text) == text else found


def _pin_labels(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        place = axis.label.get_transform().transform(axis.label.get_position())
        axis.set_label_coords(*axes.transAxes.inverted().transform(place))


def placeholders(text: str) -> str:
    """Return a text with characters of the same width in place of those that no font has."""
    missing = undrawable(text)
    return "".join(_room(letter) if letter in missing else letter for letter in text) if missing else text


def _room(letter: str) -> str:
    return WIDE if east_asian_width(letter) in "FW" else NARROW
