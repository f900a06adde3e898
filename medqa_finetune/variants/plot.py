"""Draws one picture of the variants: bars for size, memory, speed and scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medqa_finetune.compat.fonts import escaped, fonts, picture_language
from medqa_finetune.compat.pictures import PICTURES, picture
from medqa_finetune.evaluation.metric_registry import shortlist
from medqa_finetune.memory import MIB
from medqa_finetune.record.files import write_bytes
from medqa_finetune.report.figures.base import INK, PALETTE, STYLE
from medqa_finetune.report.figures.numbers import amount, tick
from medqa_finetune.report.messages import in_chinese_picture, panel_title
from medqa_finetune.report.names import plain

NAME = "variants"
DPI = 160
MEMORY = {"peak_vram_bytes": "Peak GPU memory, allocated (MiB)", "peak_rss_bytes": "Peak resident memory (MiB)"}
# As many as stand above one panel of three.
TITLE_CHARACTERS = 36
COLOURS = ("base", "quantized", "lora", "lora_quantized", "merged")


def write_plot(table: Sequence[Mapping[str, Any]], title: str, folder: Path) -> list[Path]:
    """Draw the rows of the table, write the picture as PNG, SVG and PDF, each atomically, and return the paths.

    Args:
        table: Rows from `variants.table.rows`.
        title: Title of the picture.
        folder: Takes the files.
    """
    paths = [folder / f"{NAME}.{ending}" for ending in PICTURES]
    style: Any = STYLE | {"font.family": fonts(), "svg.hashsalt": NAME, "pdf.fonttype": 42}
    with mpl.rc_context(style):
        figure = Figure(figsize=(12.0, 6.4), layout="constrained")
        for ax, (column, heading, unit) in zip(figure.subplots(2, 3).flat, _panels(table), strict=True):
            _draw(ax, [(str(row["variant"]), row[column]) for row in table], _words(heading), unit)
        figure.suptitle(escaped(plain(title)), fontsize=12, fontweight="bold")
        for path in paths:
            write_bytes(path, picture(figure, path.suffix[1:], DPI))
    return paths


def _panels(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, float]]:
    """Return column, heading and unit of each panel; memory is that of the GPU if it was measured."""
    on_gpu = any(row["peak_vram_bytes"] is not None for row in table)
    memory = "peak_vram_bytes" if on_gpu else "peak_rss_bytes"
    scores = [score.name for score in shortlist()][:3]
    language = picture_language()
    return [
        ("disk_bytes", "Size on disk, an adapter's base included (MiB)", MIB),
        (memory, MEMORY[memory], MIB),
        ("tokens_per_second", "Generation (tokens/s)", 1),
        *((name, panel_title(name).zh if language == "zh" else panel_title(name).en, 1) for name in scores),
    ]


def _words(english: str) -> str:
    return in_chinese_picture(english) if picture_language() == "zh" else english


def _draw(ax: Axes, values: Sequence[tuple[str, float | None]], heading: str, unit: float) -> None:
    """Draw one panel; a variant without a value keeps its place and is marked as not measured."""
    palette = dict(zip(COLOURS, sns.color_palette(PALETTE), strict=False))
    ax.set_title(fill(heading, TITLE_CHARACTERS))
    for place, (name, value) in enumerate(values):
        if value is None:
            ax.text(place, 0, _words("not measured"), rotation=90, ha="center", va="bottom", color=INK, fontsize=8)
            continue
        bars = ax.bar(place, value / unit, color=palette[name], width=0.7)
        ax.bar_label(bars, fmt=amount, fontsize=8)
    ax.set_xticks(range(len(values)), [name.replace("_", "\n") for name, _ in values])
    ax.grid(visible=False, axis="x")
    ax.margins(y=0.12)
    ax.yaxis.set_major_formatter(lambda number, _: tick(number))
