"""Tabulates size, memory, speed and scores of the variants and their differences: as rows, text and CSV."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_finetune.config.command_line import aligned_table
from medqa_finetune.evaluation.metric_registry import default_scores, describe
from medqa_finetune.evaluation.metrics.base import Prominence, ScoreInfo
from medqa_finetune.languages.choice import chosen
from medqa_finetune.languages.translate import Kind, say, translated
from medqa_finetune.memory import MIB
from medqa_finetune.record.files import write_text
from medqa_finetune.variants.metadata import Metadata

CSV_NAME = "variants.csv"
# Figures are compared with the untuned model, and with the unmerged adapter to show the cost of merging and quantizing.
REFERENCES = ("base", "lora")
FIGURES = (
    "disk_bytes",
    "peak_vram_bytes",
    "peak_vram_reserved_bytes",
    "peak_rss_bytes",
    "samples_per_second",
    "tokens_per_second",
)
# Terminal heading, figure, value of one unit, decimal places; scores follow.
Column = tuple[str, str, int, int]
COSTS: tuple[Column, ...] = (
    ("disk MiB", "disk_bytes", MIB, 1),
    ("memory MiB", "memory_bytes", MIB, 0),
    ("tokens/s", "tokens_per_second", 1, 0),
)


def shown_scores(names: Iterable[str]) -> list[ScoreInfo]:
    """Return the scores to compare variants by: main scores of predictions, and measured scores of unknown metrics.

    Args:
        names: Names of the measured scores of all variants.
    """
    usual = [score for score in default_scores() if not score.running_text]
    others = sorted(set(names) - {score.name for score in usual})
    return [score for score in (*usual, *map(describe, others)) if score.prominence is not Prominence.DETAIL]


def figures(metadata: Metadata) -> dict[str, float]:
    """Return the measured figures of one variant by name."""
    found: dict[str, float | None] = {"disk_bytes": metadata.total_bytes}
    measured = metadata.measured
    if measured is not None:
        found |= {name: getattr(measured, name) for name in FIGURES if name != "disk_bytes"}
        found |= {name: score.value for name, score in measured.scores.items()}
    return {name: value for name, value in found.items() if value is not None}


def compare(variants: Mapping[str, Metadata]) -> dict[str, Metadata]:
    """Return the variants with `differences` filled in."""
    compared = {}
    for name, metadata in variants.items():
        others = {other: variants[other] for other in REFERENCES if other in variants and other != name}
        differences = {other: _differences(metadata, reference) for other, reference in others.items()}
        compared[name] = dataclasses.replace(metadata, differences=differences)
    return compared


def _differences(metadata: Metadata, reference: Metadata) -> dict[str, float]:
    """Return each figure minus that of the reference; scores only if signature and questions agree."""
    mine, theirs = figures(metadata), figures(reference)
    one, other = metadata.measured, reference.measured
    alike = one is not None and other is not None and one.questions_sha256 == other.questions_sha256
    scores = {} if one is None else one.scores
    comparable = {name for name in mine.keys() & theirs.keys() if name == "disk_bytes" or alike}
    if other is not None:
        comparable -= {
            name for name in scores if name in other.scores and scores[name].signature != other.scores[name].signature
        }
    return {name: mine[name] - theirs[name] for name in mine if name in comparable}


def rows(variants: Mapping[str, Metadata]) -> list[dict[str, Any]]:
    """Return one row per variant; what was not measured is None, never 0."""
    found = []
    measured_scores = (name for each in variants.values() if each.measured for name in each.measured.scores)
    compared = (*FIGURES, *(score.name for score in shown_scores(measured_scores)))
    for name, metadata in variants.items():
        own, measured = figures(metadata), metadata.measured
        row: dict[str, Any] = {
            "variant": name,
            "what": metadata.what,
            "quantization": metadata.settings.get("quantization"),
            "dtype": metadata.settings.get("dtype"),
            "size_bytes": metadata.size_bytes,
            "needed_base_bytes": metadata.needs.size_bytes if metadata.needs is not None else None,
            "n": measured.n if measured is not None else None,
        }
        row |= {key: own.get(key) for key in compared}
        row["start_rss_bytes"] = measured.start_rss_bytes if measured is not None else None
        for reference in REFERENCES:
            against = metadata.differences.get(reference, {})
            row |= {f"{key}_minus_{reference}": against.get(key) for key in compared}
        if measured is not None:
            row |= {"device": measured.environment.device, "precision": measured.environment.precision}
            row["signature"] = "; ".join(sorted({score.signature for score in measured.scores.values()}))
        found.append(row)
    return found


def write_csv(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the rows as CSV, atomically; what was not measured is an empty cell."""
    keys = list(dict.fromkeys(key for row in table for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in table)
    write_text(path, buffer.getvalue())


def as_text(table: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows for a terminal, with differences and a legend of the figures below."""
    columns = _columns(table)
    header = [say("variant"), *(say(heading) for heading, _, _, _ in columns)]
    parts = [aligned_table(header, [[row["variant"], *_cells(row, columns, "")] for row in table], left=header[:1])]
    titles = {
        "base": say("less the untuned model"),
        "lora": say("less the adapter on its base: what merging and quantizing cost"),
    }
    for reference in REFERENCES:
        compared = [row for row in table if row.get(f"disk_bytes_minus_{reference}") is not None]
        if reference == "lora":
            compared = [row for row in compared if row["variant"] in ("merged", "lora_quantized")]
        if compared:
            cells = [[row["variant"], *_cells(row, columns, f"_minus_{reference}")] for row in compared]
            parts.append(f"{titles[reference]}\n{aligned_table(header, cells, left=header[:1])}")
    return "\n\n".join([*parts, *_notes(table)])


def _columns(table: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the text columns: costs, then scores."""
    suffix = f"_minus_{REFERENCES[0]}"
    scores = {key.removesuffix(suffix) for row in table for key in row if key.endswith(suffix)} - {*FIGURES}
    return [*COSTS, *((score.words_in(chosen()).short, score.name, 1, score.digits) for score in shown_scores(scores))]


def _cells(row: Mapping[str, Any], columns: Sequence[Column], suffix: str) -> list[str]:
    return [
        _cell(_value(row, figure, suffix), unit, digits, signed=bool(suffix)) for _, figure, unit, digits in columns
    ]


def _value(row: Mapping[str, Any], figure: str, suffix: str) -> Any:
    """Return a figure of a row; memory is that of the GPU if measured, else that of the process."""
    if figure == "memory_bytes":
        figure = "peak_vram_bytes" if row["peak_vram_bytes"] is not None else "peak_rss_bytes"
    return row.get(f"{figure}{suffix}")


def _cell(value: float | None, unit: float, digits: int, *, signed: bool) -> str:
    if value is None:
        return "-"
    return f"{value / unit:{'+' if signed else ''},.{digits}f}"


def _notes(table: Sequence[Mapping[str, Any]]) -> list[str]:
    measured = [row for row in table if row["n"] is not None]
    if not measured:
        return [say("Not measured (export.measure=false).")]
    first = measured[0]
    machine = {"device": translated(first["device"], Kind.SAID), "precision": first["precision"]}
    lines = [
        say("{count} questions each, on {device} in {precision}.", count=first["n"], **machine),
        say("disk: all that must be there to load it, an adapter's base too."),
    ]
    if first["peak_vram_bytes"] is not None:
        lines.append(say("memory: the most that tensors held on the GPU."))
    else:
        start = f"{min(row['start_rss_bytes'] for row in measured) / MIB:,.0f}"
        held = "memory: the most that the process held, {size} MiB of it Python and its libraries."
        lines.append(say(held, size=start))
    return ["\n".join(lines)]
