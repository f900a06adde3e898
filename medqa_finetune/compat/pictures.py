"""Writes matplotlib's figures as files that are equal for equal figures: the time, which each format names in its own
way, is left out.
"""

import io
from typing import Any

from matplotlib.figure import Figure

# Endings of the files of a picture.
PICTURES = ("png", "svg", "pdf")
TIMELESS: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def picture(figure: Figure, ending: str, dpi: int) -> bytes:
    """Return a figure as a file of one of `PICTURES`; the ids in an SVG are those of `svg.hashsalt`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending, dpi=dpi, metadata=TIMELESS[ending])
    return buffer.getvalue()
