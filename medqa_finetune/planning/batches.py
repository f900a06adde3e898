"""What `train.micro_batch` and `train.gradient_checkpointing` are planned to be in each cell, and why."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from medqa_finetune.config.schema import Config
from medqa_finetune.languages.translate import say
from medqa_finetune.methods.registry import method_of
from medqa_finetune.model.auto_batch import is_auto
from medqa_finetune.model.auto_matrix import Resolved
from medqa_finetune.planning.examples import listed


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches that a cell trains with.

    Attributes:
        micro_batch: As in `TrainConfig`, as is the next; None for a cell that trains nothing.
        gradient_checkpointing: Whether activations are computed again.
        decided_by: Where they are `auto`, the cell that needs most memory of those that share them; None elsewhere.
        taken_from: Where they are `auto`, the run in `outputs` whose choice it is; None elsewhere.
    """

    micro_batch: int | None = None
    gradient_checkpointing: bool | None = None
    decided_by: str | None = None
    taken_from: str | None = None


def batches_of(configs: Sequence[Config], resolved: Sequence[Resolved], names: Sequence[str]) -> list[Batches]:
    """Return the batches of every cell.

    Args:
        configs: All cells, as they are asked for.
        resolved: Those that load a model, with `auto` resolved, in order.
        names: Names of all cells.
    """
    of_models = iter(resolved)
    places = [place for place, config in enumerate(configs) if method_of(config.method).loads_model]
    found = []
    for config in configs:
        method = method_of(config.method)
        each = next(of_models, None) if method.loads_model else None
        if each is None or not method.trains_weights:
            found.append(Batches())
            continue
        decided_by = None if each.decided_by is None else names[places[each.decided_by]]
        settings = (each.train.micro_batch, each.train.gradient_checkpointing)
        found.append(Batches(*settings, *((decided_by, each.taken_from) if is_auto(config.train) else (None, None))))
    return found


def describe_batches(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line per choice of what is `auto`: the values, for which cells, and on what basis.

    Args:
        rows: The cells of a plan, each with `name` and, as mappings, its `batches`.
    """
    chosen: dict[Batches, list[str]] = {}
    too_large = {row["name"] for row in rows if row.get("fits") is False}
    for row in rows:
        each = Batches(**row["batches"])
        if each.decided_by is not None or each.taken_from is not None:
            chosen.setdefault(each, []).append(row["name"])
    lines = []
    for each, cells in chosen.items():
        again = str(each.gradient_checkpointing).lower()
        values = f"train.micro_batch={each.micro_batch} train.gradient_checkpointing={again}"
        those = listed(cells, rows) if len(chosen) > 1 else say("all that train")
        if each.taken_from is not None:
            basis = say("as in {cell}, with which they are compared", cell=each.taken_from)
        elif too_large.intersection((*cells, each.decided_by)):
            basis = say("the smallest there is, which does not fit by the estimate")
        elif len(cells) > 1:
            basis = say(
                "the fastest that fits for {cell}, which needs most memory, by the estimate", cell=each.decided_by
            )
        else:
            basis = say("the fastest that fits by the estimate")
        lines.append(say("auto: {values} for {cells}: {basis}.", values=values, cells=those, basis=basis))
    return lines
