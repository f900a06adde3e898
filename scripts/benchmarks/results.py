"""Formats and saves benchmark results: figures with machine and date, medians, tables."""

import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from medqa_finetune.record.environment import commit_of_code, installed_versions

GIB = 2**30


def describe_machine() -> dict[str, Any]:
    """Return the properties of this machine that determine speed, without identifying it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return {
        "cpu": found[1].strip() if found else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def heading(what: str) -> dict[str, Any]:
    """Return the first fields of every saved result."""
    return {
        "what": what,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit_of_code(),
        "machine": describe_machine(),
        "versions": installed_versions(),
    }


def keep(path: Path | None, content: dict[str, Any]) -> None:
    """Write a result as JSON if a path is given, and print the path."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        print(f"\nkept in {path}")


def spread(values: Iterable[float | None]) -> dict[str, float] | None:
    """Return median, minimum and maximum of the measured values; None without any."""
    known = [value for value in values if value is not None]
    return {"median": median(known), "least": min(known), "most": max(known)} if known else None


def shown(found: dict[str, float] | None, digits: int = 2) -> str:
    """Format a median with its spread, or a dash."""
    if found is None:
        return "–"
    middle, least, most = (f"{found[name]:.{digits}f}" for name in ("median", "least", "most"))
    return middle if least == most else f"{middle} ({least}–{most})"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
