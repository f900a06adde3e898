"""A raw row, as every reader gives it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a corpus file, before anything of it is chosen or cleaned.

    Attributes:
        place: `file:line` or `file[index]`, for messages and as the row's name.
        values: Column name to value.
    """

    place: str
    values: dict[str, Any]
