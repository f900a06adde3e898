"""What a plan says of examples: those that are cut, and those that cells validate on."""

from collections.abc import Mapping, Sequence
from typing import Any

from medqa_finetune.languages.translate import say
from medqa_finetune.record.short_names import short_names

NAME_WIDTH = 40


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
            cells = say("all cells") if len(shares) == len(rows) else ", ".join(shares)
            said.append(
                say(
                    "Longer than train.max_length, and cut: {share} of the {what} ({cells}).",
                    share=share,
                    what=what,
                    cells=cells,
                )
            )
    return said


def describe_validations(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how often cells validate, on how many examples, one line for all cells that train.

    Args:
        rows: The cells of a plan, each with `name`, `validations` and `validation_samples`.
    """
    alike: dict[tuple[int, int], list[str]] = {}
    names = short_names([each["name"] for each in rows], NAME_WIDTH)
    for each, name in zip(rows, names, strict=True):
        if each["validations"]:
            alike.setdefault((each["validations"], each["validation_samples"]), []).append(name)
    if not alike:
        return []
    every = len(alike) == 1
    parts = [
        say("{times} x {samples} examples", times=times, samples=f"{samples:,}")
        + ("" if every else f" ({', '.join(cells)})")
        for (times, samples), cells in alike.items()
    ]
    return [say("Validation: {parts}.", parts="; ".join(parts))]
