"""What each profile needs, from the planner: memory on its card and here, and hours where they are asked for."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_finetune.checkup.trials import Trial
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import MedQAError


@dataclasses.dataclass(frozen=True)
class Need:
    """What a profile needs with the given arguments, or what they need without one.

    Attributes:
        name: The profile; empty for the arguments as they are.
        model: Name of the model, or names.
        method: Name of the method, or names.
        card: The card it is for; this machine's device where it is for any.
        needed_bytes: Peak memory of training there; None where the model's sizes are not known.
        card_bytes: Memory of the card.
        fits: Whether it fits there.
        needed_here_bytes: Peak memory here, where settings that are `auto` may become others.
        fits_here: Whether it fits here.
        hours: Hours of all cells on the card; None where they were not asked for, or cannot be computed.
        disk_bytes: The most that a cell takes on disk.
    """

    name: str
    model: str
    method: str
    card: str | None = None
    needed_bytes: int | None = None
    card_bytes: int | None = None
    fits: bool | None = None
    needed_here_bytes: int | None = None
    fits_here: bool | None = None
    hours: float | None = None
    disk_bytes: int | None = None


def needs_of(cells: Mapping[str, Sequence[Config]], trials: Sequence[Trial]) -> list[Need]:
    """Return the needs of the cells of each name, sorted: those of the cell that needs most memory."""
    found = []
    for name, configs in cells.items():
        known = [each.facts for each in trials if each.name == "memory" and each.facts.get("name") == name]
        sized = [facts for facts in known if facts["needed_bytes"] is not None]
        need = Need(name, _names(each.model.name for each in configs), _names(each.method.name for each in configs))
        if sized:
            need = _with_most(need, sized)
        found.append(need)
    # As typed, then the cards by their size.
    return sorted(found, key=lambda need: (need.name != "", need.card_bytes or 0))


def _with_most(need: Need, sized: Sequence[Mapping[str, Any]]) -> Need:
    most = max(sized, key=lambda facts: facts["needed_bytes"])
    return dataclasses.replace(
        need,
        card=most["card"],
        needed_bytes=most["needed_bytes"],
        card_bytes=most["card_bytes"],
        fits=all(facts["fits"] for facts in sized),
        needed_here_bytes=max(facts["needed_here_bytes"] for facts in sized),
        fits_here=all(facts["fits_here"] for facts in sized),
        disk_bytes=max(facts["disk_bytes"] for facts in sized),
    )


def _names(names: Any) -> str:
    return ",".join(dict.fromkeys(names))


def with_hours(need: Need, configs: Sequence[Config], card: str | None) -> Need:
    """Return a need with the hours that the planner computes; the corpus is prepared where it is not yet."""
    from medqa_finetune.planning.plan_cells import PlannedFor, make_plan

    try:
        with tempfile.TemporaryDirectory(prefix="medqa-doctor-", ignore_cleanup_errors=True) as folder:
            seconds = [
                each.seconds
                for each in make_plan(configs, Path(folder), probe=False, planned=PlannedFor(card)).forecasts
            ]
    except (MedQAError, OSError):
        return need
    return dataclasses.replace(need, hours=sum(seconds) / 3600)
