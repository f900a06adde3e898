"""Says which runs of a matrix are not done: failed, stopped, running, not started, or without a run at all."""

from collections.abc import Sequence

from medqa_finetune.config.labels import method_label
from medqa_finetune.config.size_names import size_name
from medqa_finetune.report.runs import Run
from medqa_finetune.report.verdict import RunState, Unfinished

STATES = {"pending": RunState.NOT_STARTED, "failed": RunState.FAILED, "interrupted": RunState.INTERRUPTED}


def unfinished_of(runs: Sequence[Run]) -> tuple[Unfinished, ...]:
    """Return what is not done, one entry per study with such runs."""
    studies: dict[str, list[Run]] = {}
    for run in runs:
        studies.setdefault(run.study, []).append(run)
    found = [_of_study(study if len(studies) > 1 else "", own) for study, own in studies.items()]
    return tuple(each for each in found if each.runs or each.missing)


def _of_study(study: str, runs: Sequence[Run]) -> Unfinished:
    states: dict[RunState, list[str]] = {}
    for run in runs:
        if not run.done:
            states.setdefault(state_of(run), []).append(_name(run, runs))
    ordered = {state: tuple(states[state]) for state in RunState if state in states}
    return Unfinished(study, sum(run.done for run in runs), len(runs), ordered, _missing(runs))


def state_of(run: Run) -> RunState:
    """Return why a run is not done."""
    if run.record is None:
        return RunState.UNREADABLE
    if run.in_queue:
        return RunState(run.in_queue)
    if run.record.status in STATES:
        return STATES[run.record.status]
    # A process that was killed leaves its status as it was.
    return RunState.RUNNING if run.folder is not None and run.folder.is_locked() else RunState.STOPPED


def _name(run: Run, runs: Sequence[Run]) -> str:
    label = str(run.values.get("label") or run.name)
    seeds = {each.known.seed for each in runs if each.record is not None and each.values.get("label") == label}
    return f"{label} seed {run.known.seed}" if len(seeds) > 1 else label


def _missing(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the combinations of a method and a size that no run has, where each has a run with another."""
    grids: dict[tuple[object, ...], dict[tuple[str, int], str]] = {}
    for run in runs:
        size = run.values.get("train_size")
        if size and run.trains:
            place = tuple(run.values.get(column) for column in ("corpus", "model"))
            grids.setdefault(place, {})[str(run.values["method"]), size] = str(run.values["data"])
    missing = []
    for grid in grids.values():
        methods, sizes = dict.fromkeys(method for method, _ in grid), sorted({size for _, size in grid})
        for method in methods:
            names = {size: size_label for (_, size), size_label in grid.items()}
            absent = [size for size in sizes if (method, size) not in grid]
            missing += [f"{method_label(method)} {size_name(names[size], size)}" for size in absent]
    return tuple(missing)
