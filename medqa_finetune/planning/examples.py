"""What a plan says of examples: those that are cut, and those that cells validate on."""

from collections.abc import Mapping, Sequence
from typing import Any

from medqa_finetune.languages.labels import joined
from medqa_finetune.languages.translate import say

MOST_NAMES = 4


def listed(cells: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which cells of a plan are meant: all, all that train, or a few names and how many more.

    Args:
        cells: Their names.
        rows: All cells of the plan, each with `name` and, of one that trains, `validations`.
    """
    if len(set(cells)) == len({each["name"] for each in rows}):
        return say("all cells")
    if set(cells) == {each["name"] for each in rows if each.get("validations")}:
        return say("all that train")
    names, more = joined(cells[:MOST_NAMES]), len(cells) - MOST_NAMES
    return say("{names} and {more} more", names=names, more=more) if more > 0 else names


def describe_cut(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which share of the cells' examples and questions does not fit into `train.max_length`."""
    said = []
    kinds = {
        "examples_cut": say("training examples"),
        "questions_cut": say("test questions or their references"),
    }
    for key, what in kinds.items():
        shares = {each["name"]: float(each[key]) for each in rows if each[key]}
        if shares:
            low, high = f"{min(shares.values()):.1%}", f"{max(shares.values()):.1%}"
            share = low if low == high else say("{low} to {high}", low=low, high=high)
            said.append(
                say(
                    "Longer than train.max_length, and cut: {share} of the {what} ({cells}).",
                    share=share,
                    what=what,
                    cells=listed(list(shares), rows),
                )
            )
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
    words = "{times} x {samples} examples" if every else "{times} x {samples} examples ({cells})"
    parts = [
        say(words, times=times, samples=f"{samples:,}", cells=listed(cells, rows))
        for (times, samples), cells in alike.items()
    ]
    return [say("Validation: {parts}.", parts=say("; ").join(parts))]
