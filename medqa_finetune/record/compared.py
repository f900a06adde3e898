"""The runs of a study that a run's time and memory are compared with, and the batches they were trained with.

Such runs share what `train.micro_batch=auto` and `train.gradient_checkpointing=auto` stand for. Their records are the
only place where it is written, so that it outlives a launch, and runs that are added later find it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import Any

from medqa_finetune.config.identity import LEFT_TO_CHOICE
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import TrainConfig
from medqa_finetune.errors import DataError
from medqa_finetune.methods.registry import described
from medqa_finetune.record.lease import Lease
from medqa_finetune.record.record_dir import FolderLock
from medqa_finetune.record.run_dir import RECORD_NAME, RunDir
from medqa_finetune.record.schema import Fitted, Record

# Settings that compared runs share, and that decide what fits or how fast it is. Method, data, seed, learning rate and
# so on may differ between them.
SHARED = ("batch_size", "max_length", "packing", "kernels")
# Another run of the study may be trying what fits, for which it loads nothing: a step or a few.
PATIENCE_SECONDS = 600.0


def comparison_of(settings: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what compared runs of one study have in common, from nested settings as they are written to disk."""
    model, corpus, train = (_section(settings, name) for name in ("model", "corpus", "train"))
    return (
        model.get("name"),
        PurePath(str(model.get("path"))).name,
        corpus.get("name"),
        corpus.get("task"),
        settings.get("precision"),
        *(train.get(key) for key in SHARED),
    )


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def compared_runs(study: Path, settings: Mapping[str, Any], but: str = "") -> list[Record]:
    """Return the records of the trainings of a study that one with these settings is compared with, in order of start.

    Args:
        study: Folder of the study.
        settings: Settings of a run, nested, as they are written to disk.
        but: Name of a run that is left out.
    """
    wanted = comparison_of(settings)
    found = [
        record
        for record in _records(study, but)
        if comparison_of(record.config) == wanted and described(record.setting("method", "trains")).trains_weights
    ]
    return sorted(found, key=lambda record: (record.started is None, record.started or "", record.name))


def _records(study: Path, but: str) -> Iterator[Record]:
    for path in sorted(study.glob(f"*/{RECORD_NAME}")):
        if path.parent.name != but and ".old-" not in path.parent.name:
            try:
                record = RunDir(path.parent).read()
            except DataError:  # its own start reports why it cannot be read
                continue
            if record is not None:
                yield record.updated(name=path.parent.name)


def choosing(run: RunDir) -> AbstractContextManager[Lease]:
    """Hold the study's lock, under which one run at a time chooses.

    Raises:
        RunError: another process holds it for ten minutes, or the study's folder is not writable.
    """
    folder = run.path.parent
    return FolderLock(folder, folder / ".auto.lock").hold("another run of this study", PATIENCE_SECONDS)


def trained_with(record: Record) -> Fitted | None:
    """Return the batches that a run is trained with; None where that is not decided."""
    if record.fitted is not None:
        return record.fitted
    train = _section(record.config, "train")
    micro_batch, again = (train.get(_name(key)) for key in LEFT_TO_CHOICE)
    if not isinstance(micro_batch, int) or not isinstance(again, bool):
        return None
    return Fitted(micro_batch, again, chosen_in=record.name)


def choices_of(records: Sequence[Record], train: TrainConfig, device: str) -> list[Fitted]:
    """Return the choices of compared runs on this device that settings allow, each once, the most frequent first.

    A value that was typed for another run is no choice for this one; one that was taken because the others' did not
    fit comes last.

    Args:
        records: The compared runs, the first started first.
        train: Settings with `auto`.
        device: Name of the device.
    """
    found: dict[tuple[int, bool], list[Fitted]] = {}
    for record in records:
        here = record.environment is not None and record.environment.device == device
        values = trained_with(record) if here else None
        if values is not None and all(_allows(key, values, record, train) for key in LEFT_TO_CHOICE):
            found.setdefault((values.micro_batch, values.gradient_checkpointing), []).append(values)
    ranked = sorted(found.values(), key=lambda alike: (alike[0].instead_of is not None, -len(alike)))
    return [alike[0] for alike in ranked]


def _allows(key: str, values: Fitted, record: Record, train: TrainConfig) -> bool:
    name = _name(key)
    asked, given = getattr(train, name), _section(record.config, "train").get(name)
    # Values that are not in a run's name are defaults, of a profile or of an earlier version.
    is_typed = given != AUTO and f"{key}=" in record.name
    return not is_typed if asked == AUTO else bool(asked == getattr(values, name))


def asks_alike(record: Record, train: TrainConfig) -> bool:
    """Return whether a run leaves the same to choice as these settings, and gives the same otherwise."""
    given = _section(record.config, "train")
    return all(given.get(_name(key)) == getattr(train, _name(key)) for key in LEFT_TO_CHOICE)


def _name(key: str) -> str:
    return key.removeprefix("train.")
