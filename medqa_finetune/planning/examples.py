"""What a plan says of examples: those that are cut, and those that cells validate on."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_NAMES = 4


def listed(cells: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which cells of a plan are meant: all, all that train, or a few names and how many more.

    Args:
        cells: Their names.
        rows: All cells of the plan, each with `name` and, of one that trains, `validations`.
    """
    if len(set(cells)) == len({each["name"] for each in rows}):
        return "all cells"
    if set(cells) == {each["name"] for each in rows if each.get("validations")}:
        return "all that train"
    more = f" and {len(cells) - MOST_NAMES} more" if len(cells) > MOST_NAMES else ""
    return ", ".join(cells[:MOST_NAMES]) + more


def describe_cut(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which share of the cells' examples and questions does not fit into `train.max_length`."""
    said = []
    for key, what in (("examples_cut", "training examples"), ("questions_cut", "test questions or their references")):
        shares = {each["name"]: float(each[key]) for each in rows if each[key]}
        if shares:
            low, high = f"{min(shares.values()):.1%}", f"{max(shares.values()):.1%}"
            share = low if low == high else f"{low} to {high}"
            cells = listed(list(shares), rows)
            said.append(f"Longer than train.max_length, and cut: {share} of the {what} ({cells}).")
    return said


def describe_validations(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how often cells validate, on how many examples, one line for all cells that train.

    Args:
        rows: The cells of a plan, each with `name`, `validations` and `validation_samples`.
    """
    alike: dict[tuple[int, int], list[str]] = {}
    for each in rows:
        if each["validations"]:
            alike.setdefault((each["validations"], each["validation_samples"]), []).append(each["name"])
    if not alike:
        return []
    every = len(alike) == 1
    parts = [
        f"{times} x {samples:,} examples" + ("" if every else f" ({listed(cells, rows)})")
        for (times, samples), cells in alike.items()
    ]
    return [f"Validation: {'; '.join(parts)}."]
