"""Summarizes the results of a set of versions: failing tests by cause, and deprecations by message and package."""

import json
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.versions.locks import ROOT

# Of a message, in a table.
WIDTH = 160
DEPRECATIONS = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")
# As `warnings` prints one.
PRINTED = re.compile(r"(?P<filename>\S+):(?P<lineno>\d+): (?P<category>\w*Warning): (?P<message>.*)")
# What a library says by its logger instead, in a log file of ours.
LOGGED = re.compile(r"^\S+ \S+ WARNING (?P<logger>[\w.]+): (?P<message>.*deprecat.*)", re.IGNORECASE)
# Shown without failing: parts of messages between other packages, with the package that has to change.
KNOWN = {
    "`is_gradient_checkpointing` is deprecated": "peft asks transformers for it",
    "`torch.jit.script_method` is deprecated": "torch itself uses it",
}


@dataclass(frozen=True)
class Cause:
    """Failing tests that ended alike.

    Attributes:
        kind: Type of the exception.
        message: First line of its message, without what differs from run to run.
        count: How many tests.
        example: One of them.
    """

    kind: str
    message: str
    count: int
    example: str


@dataclass(frozen=True)
class Suite:
    """How a test suite ended."""

    passed: int
    skipped: int
    failed: int
    causes: tuple[Cause, ...]


@dataclass(frozen=True)
class Deprecation:
    """A deprecation: behaviour that a coming release will change.

    Attributes:
        category: Class of the warning; `logged` where a logger said it.
        message: First line of its message.
        package: Whose code it points at.
        count: In how many places.
        example: A test, or a cell of the demo.
        known: Why it is no reason to fail; None where it is one.
    """

    category: str
    message: str
    package: str
    count: int
    example: str
    known: str | None = None


@dataclass(frozen=True)
class Warned:
    """One warning, as pytest or a log file has it."""

    category: str
    message: str
    filename: str
    lineno: int
    where: str


def read_junit(path: Path) -> Suite:
    """Return how the tests of a file of pytest's `--junit-xml` ended."""
    passed, skipped, ends = 0, 0, []
    # pytest has written it, in this run.
    for case in ET.parse(path).iter("testcase"):  # noqa: S314
        fault = next((each for tag in ("failure", "error") if (each := case.find(tag)) is not None), None)
        if fault is not None:
            name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
            ends.append((*cause_of(fault.get("message", ""), fault.text or ""), name))
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Suite(passed, skipped, len(ends), tuple(group_causes(ends)))


def cause_of(message: str, text: str) -> tuple[str, str]:
    """Return the type of an exception and the first line of its message, of what pytest says about a failing test.

    Args:
        message: As in the attribute of the element.
        text: The traceback; the last line that pytest marks with an E counts where the message names no exception.
    """
    message = re.sub(r'^failed on (setup|teardown) with "', "", message)
    lines = message.splitlines() or [""]
    if lines[0].startswith("assert"):
        return "AssertionError", first_line(lines[0])
    marked = [line[1:].strip() for line in text.splitlines() if re.match(r"E\s", line)]
    for line in (lines[0], *reversed(marked)):
        match = re.match(r"((?:\w+\.)*[A-Z]\w*)(?:: (.*)|)$", line)
        if match:
            return match[1].rpartition(".")[2], first_line(match[2] or "")
    return "unknown", first_line(lines[0])


def group_causes(ends: Iterable[tuple[str, str, str]]) -> list[Cause]:
    """Group failing tests by cause, the most frequent first.

    Args:
        ends: Type, message and test.
    """
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for kind, message, name in ends:
        found[kind, message].append(name)
    causes = [Cause(kind, message, len(names), names[0]) for (kind, message), names in found.items()]
    return sorted(causes, key=lambda cause: (-cause.count, cause.kind, cause.message))


def read_warnings(path: Path) -> list[Warned]:
    """Return the warnings in a file of our pytest option `--warnings-to`; none where it was not written."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines if line.strip()]
    return [Warned(*(row[key] for key in ("category", "message", "filename", "lineno", "test"))) for row in rows]


def warnings_in_log(text: str, where: str) -> Iterator[Warned]:
    """Yield the warnings in what a command prints or keeps as its log."""
    for line in text.splitlines():
        if printed := PRINTED.search(line):
            yield Warned(printed["category"], printed["message"], printed["filename"], int(printed["lineno"]), where)
        elif logged := LOGGED.match(line):
            yield Warned("logged", logged["message"], logged["logger"], 0, where)


def group_deprecations(warned: Iterable[Warned]) -> list[Deprecation]:
    """Return the deprecations among warnings by message and package, the most frequent first."""
    places: dict[tuple[str, str, str], dict[tuple[str, int], str]] = defaultdict(dict)
    for each in warned:
        if each.category == "logged":
            package = each.filename.partition(".")[0]
        elif each.category in DEPRECATIONS:
            package = package_of(each.filename)
        else:
            continue
        key = each.category, first_line(each.message), package
        places[key].setdefault((each.filename, each.lineno), each.where)
    found = [
        Deprecation(category, message, package, len(where), next(iter(where.values())), _known(message))
        for (category, message, package), where in places.items()
    ]
    return sorted(found, key=lambda each: (-each.count, each.package, each.message))


def package_of(filename: str) -> str:
    """Return the package that a file belongs to: an installed one, a folder of this repository, or `python`."""
    parts = re.split(r"[\\/]", filename)
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            return parts[parts.index(folder) + 1].removesuffix(".py")
    path = Path(filename)
    return path.relative_to(ROOT).parts[0] if path.is_relative_to(ROOT) else "python"


def first_line(text: str) -> str:
    """Return the first line of a message, without addresses and folders, which differ from run to run."""
    line = (text.strip().splitlines() or [""])[0]
    line = re.sub(r"0x[0-9a-f]{4,}", "0x…", line)
    line = re.sub(r"(?<![\w:/.])(?:/[^\s/:'\",)]+)+/(?=[^\s/:'\",)])", "…/", line)
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _known(message: str) -> str | None:
    return next((reason for part, reason in KNOWN.items() if part in message), None)
