"""A raw row, as every reader gives it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a corpus file, before anything of it is chosen or cleaned.

    Attributes:
        place: `file:line` or `file[index]`, the row's name.
        values: Column name to value.
        line: `file:line` where the name does not say it; empty where nothing has lines.
    """

    place: str
    values: dict[str, Any]
    line: str = ""

    @property
    def where(self) -> str:
        """Return where to look for the row, for messages."""
        return self.line or self.place
