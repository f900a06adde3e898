"""Formats the results of sets of versions for a terminal."""

from collections.abc import Iterator, Sequence

from scripts.versions.watching import KEY_PACKAGES, Watched

HEADINGS = ("set", "Python", *KEY_PACKAGES, "passed", "failed", "skipped", "demo cells", "deprecations", "minutes")


def report(found: Sequence[Watched]) -> str:
    """Return a table with a row for each set, and below it what is wrong with each."""
    parts = ["\n".join(table([HEADINGS, *map(_row, found)]))]
    for watched in found:
        lines = list(_details(watched))
        if lines:
            parts.append("\n".join([f"{watched.name}, Python {watched.python}", *lines]))
    return "\n\n".join(parts)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown, its columns aligned; the first row is the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _row(watched: Watched) -> list[str]:
    suite = watched.suite
    counts = ["–"] * 3 if suite is None else [str(count) for count in (suite.passed, suite.failed, suite.skipped)]
    done = sum(state == "done" for state in watched.cells.values())
    return [
        watched.name, watched.python, *(watched.versions.get(package, "–") for package in KEY_PACKAGES), *counts,
        f"{done} of {len(watched.cells)}" if watched.cells else "–", _deprecations(watched),
        f"{watched.seconds / 60:.1f}",
    ]  # fmt: skip


def _deprecations(watched: Watched) -> str:
    new = len(watched.new_deprecations())
    known = len(watched.deprecations) - new
    return f"{new} and {known} known" if known else str(new)


def _details(watched: Watched) -> Iterator[str]:
    yield from watched.faults
    for cause in watched.suite.causes if watched.suite else ():
        yield f"{cause.count} failed: {cause.kind}: {cause.message}"
        yield f"  e.g. {cause.example}"
    for cell, state in watched.cells.items():
        if state != "done":
            yield f"{cell}: {state}"
    for each in watched.deprecations:
        known = f" (known: {each.known})" if each.known else ""
        yield f"deprecated, {each.package}, {each.count} x: {each.category}: {each.message}{known}"
        yield f"  e.g. {each.example or 'before any test'}"
    for name, (floor, taken) in watched.above_floors.items():
        yield f"no wheel at its floor: {name} {floor}, tested with {taken}"
