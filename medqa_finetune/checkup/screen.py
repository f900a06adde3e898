"""The findings as one screen."""

from collections.abc import Iterator, Sequence

from medqa_finetune.checkup.memory import Need
from medqa_finetune.checkup.result import Check, State
from medqa_finetune.languages.help_page import columns, wrap
from medqa_finetune.languages.translate import Kind, say, translated
from medqa_finetune.memory import GIB

WIDTH = 100
# Columns before what a check says: its state and its name.
STATE_WIDTH, NAME_WIDTH = 8, 13
MARKS = {State.OK: "ok", State.WARNING: "note", State.PROBLEM: "PROBLEM", State.SKIPPED: "skipped"}
HEADER = ("profile", "model, method", "needs", "on", "fits there", "fits here")


def as_text(asked: str, checks: Sequence[Check], needs: Sequence[Need]) -> str:
    """Return all findings for a terminal, in the chosen language."""
    lines = [say("Can `medqa-train {asked}` run here?", asked=asked) if asked else say("Can `medqa-train` run here?")]
    lines += [line for check in checks for line in _check(check)]
    if needs:
        lines += ["", *_table(needs)]
    return "\n".join([*lines, "", verdict(checks)])


def verdict(checks: Sequence[Check]) -> str:
    """Return the last line: whether a run can start."""
    problems = sum(check.state is State.PROBLEM for check in checks)
    notes = sum(check.state is State.WARNING for check in checks)
    if problems:
        return say("No: {problems} to solve first, {notes} to know.", problems=problems, notes=notes)
    return say("Yes; {notes} to know.", notes=notes) if notes else say("Yes.")


def _check(check: Check) -> Iterator[str]:
    head = _padded(say(MARKS[check.state]), STATE_WIDTH) + _padded(say(check.name), NAME_WIDTH)
    said = [check.line] if check.line else []
    said += [fault.shown_line() for fault in check.faults]
    indent = " " * (STATE_WIDTH + NAME_WIDTH)
    for number, text in enumerate(line for each in said or ["-"] for line in wrap(each, WIDTH - len(indent))):
        yield f"{indent if number else head}{text}".rstrip()


def _table(needs: Sequence[Need]) -> Iterator[str]:
    with_hours = any(need.hours is not None for need in needs)
    rows = [list(map(say, (*HEADER, *(["hours"] if with_hours else []))))]
    rows += [[*_row(need), *([_hours(need.hours)] if with_hours else [])] for need in needs]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if any(need.needed_bytes is None for need in needs):
        yield say("?: known once config.json of the model is here.")


def _row(need: Need) -> list[str]:
    head = [need.name or say("as typed"), f"{need.model}, {need.method}"]
    if need.needed_bytes is None or need.card_bytes is None:
        return [*head, "?", "?", "?", "?"]
    needs, card = (
        f"{need.needed_bytes / GIB:.1f} GiB",
        f"{translated(need.card or '', Kind.SAID)}, {need.card_bytes / GIB:.1f} GiB",
    )
    here = "" if need.needed_here_bytes is None else f" ({need.needed_here_bytes / GIB:.1f} GiB)"
    return [*head, needs, card, _fits(need.fits), _fits(need.fits_here) + here]


def _hours(hours: float | None) -> str:
    return "?" if hours is None else f"{hours:.1f}"


def _fits(fits: bool | None) -> str:
    return "?" if fits is None else say("yes") if fits else say("no")


def _padded(text: str, width: int) -> str:
    return text + " " * max(0, width - columns(text))
