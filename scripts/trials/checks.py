"""Checks: files are complete, and a disturbed run's results equal those of the undisturbed run."""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medqa_finetune.errors import MedQAError
from medqa_finetune.record.checksums import damages
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.evaluations import read_evaluation as read_one
from medqa_finetune.record.files import TEMPORARY_PREFIX
from medqa_finetune.record.run_dir import EVALUATIONS_NAME, RunDir, find_runs
from medqa_finetune.record.schema import Evaluation, Record
from medqa_finetune.training.checkpoints import MANIFEST, NAME, read_manifest

LOST, TORN, DIFFERENT, DISHONEST = "finished work lost", "torn file", "silent difference", "dishonest"
# Values that differ between runs: times, memory, traces of an interruption, and paths. In JSON files only their
# presence is compared; rows of steps after a restart have fewer of them.
MEASURED = (
    "seconds", "samples_per_second", "tokens_per_second", "peak_vram_bytes", "peak_vram_reserved_bytes",
    "peak_rss_bytes", "peak_rss_gib", "vram_allocated_gib", "vram_reserved_gib", "model_flops_utilization",
    "matrix_flops_per_second", "resumed_from", "started", "finished", "environment", "process", "outputs", "path",
    "base_model_name_or_path",
)  # fmt: skip
# Measured values that are only there if the training took long enough; not even their presence is compared.
MEASURED_IF_LONG = ("cpu_share", "cpu_taken_rate", "gpu_throttled_rate", "gpu_shared_rate")
NOT_COMPARED = ("log.txt", "tensorboard", "checkpoints", "config.yaml")
# Parts of a run that belong to its default evaluation: a file, and keys of its record.
OF_EVALUATIONS = ("eval_results.json", "record.json")
OF_THE_DEFAULT = ("evaluation", "evaluation_name", "zero_shot")
# Files that grow line by line: a kill may tear the last line, and the next start cuts it off.
GROWING = ".jsonl"


class Lost(Exception):  # noqa: N818 (a finding, not an error)
    """A check failed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def expect(holds: object, kind: str, message: str) -> None:
    if not holds:
        raise Lost(kind, message)


def the_run(outputs: Path) -> RunDir | None:
    """Return the single run below a folder; None if there is none yet."""
    runs = list(find_runs(outputs))
    expect(len(runs) <= 1, DISHONEST, f"{len(runs)} run folders instead of one: {[run.path.name for run in runs]}")
    return runs[0] if runs else None


def read_record(run: RunDir) -> Record:
    """Return a run's record; an unreadable one is reported as torn."""
    try:
        record = run.read()
    except MedQAError as error:
        raise Lost(TORN, str(error)) from None
    expect(record is not None, LOST, f"{run.record_path} is gone")
    assert record is not None
    return record


def evaluations(run: RunDir) -> dict[str, EvaluationDir]:
    """Return the folders of a run's begun or announced evaluations by name."""
    record = read_record(run)
    found = ((folder, read_evaluation(run, folder)) for folder in evaluation_dirs(run, record))
    return {evaluation.name: folder for folder, evaluation in found if evaluation is not None}


def read_evaluation(run: RunDir, folder: EvaluationDir) -> Evaluation | None:
    """Return an evaluation's record; an unreadable one is reported as torn."""
    try:
        return read_one(run, read_record(run), folder)
    except MedQAError as error:
        raise Lost(TORN, str(error)) from None


def the_evaluation(run: RunDir) -> EvaluationDir | None:
    """Return the single evaluation of a run; None if there is none yet."""
    found = list(evaluations(run).values())
    expect(len(found) <= 1, DISHONEST, f"{len(found)} evaluations instead of one: {[each.path.name for each in found]}")
    return found[0] if found else None


def answered(folder: EvaluationDir | None) -> tuple[int, int]:
    """Return the numbers of predictions and of batch costs of an evaluation on disk."""
    paths = () if folder is None else (folder.predictions_path, folder.answering_path)
    lines = [path.read_bytes().count(b"\n") if path.is_file() else 0 for path in paths]
    return (lines[0], lines[1]) if lines else (0, 0)


def check_whole(folder: Path) -> None:
    """Raise `Lost` if a file below a folder is torn; temporary files of unfinished writes do not count."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY_PREFIX)]
        if NAME.fullmatch(Path(parent).name) and Path(parent).parent.name == "checkpoints":
            faults = checkpoint_faults(Path(parent))
            expect(not faults, TORN, f"{parent}: {faults}")
        for name in names:
            fault = None if name.startswith(TEMPORARY_PREFIX) else file_fault(Path(parent, name))
            expect(fault is None, TORN, f"{Path(parent, name)}: {fault}")


def file_fault(path: Path) -> str | None:
    """Return why a file is not complete, or None."""
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            json.loads(content)
        elif path.suffix == GROWING:
            for line in content.split(b"\n")[:-1]:
                json.loads(line)
        elif path.suffix == ".csv":
            list(csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True))
            return None if content.endswith(b"\n") else "does not end with a line break"
        elif path.suffix == ".png":
            return None if content.endswith(b"IEND\xaeB`\x82") else "does not end as PNG files do"
        elif path.suffix == ".safetensors":
            header = int.from_bytes(content[:8], "little")
            ends = [part["data_offsets"][1] for part in json.loads(content[8 : 8 + header]).values() if "dtype" in part]
            return None if len(content) == 8 + header + max(ends) else "has not the size that its header says"
    except (ValueError, csv.Error) as error:
        return str(error)
    return None


def checkpoint_faults(folder: Path) -> list[str]:
    try:
        return list(map(str, damages(folder, read_manifest(folder / MANIFEST).files)))
    except MedQAError as error:
        return [str(error)]


def whole_checkpoints(run: RunDir) -> list[int]:
    """Return the steps of valid checkpoints, newest first."""
    folders = run.checkpoints_path.iterdir() if run.checkpoints_path.is_dir() else ()
    steps = [(NAME.fullmatch(path.name), path) for path in folders]
    return sorted((int(name[1]) for name, path in steps if name and not checkpoint_faults(path)), reverse=True)


def results(run: RunDir) -> dict[str, Any]:
    """Return all that two runs of one experiment must share: weights and predictions as hashes, figures as values."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in run.path.rglob("*") if path.is_file()):
        name = path.relative_to(run.path).as_posix()
        hidden = path.name.startswith(TEMPORARY_PREFIX) or path.suffix in (".lock", ".lease")
        if name.split("/")[0] in NOT_COMPARED or hidden:
            continue
        # Known files of the run and its evaluations are parsed; all others are compared byte by byte.
        own = path.parent == run.path or path.parent.parent == run.evaluations_path
        if path.suffix == ".json" and (own or path.name == "adapter_config.json"):
            found[name] = _without_measured(json.loads(path.read_bytes()), presence=True)
        elif own and path.suffix == GROWING and path.name != "predictions.jsonl":
            found[name] = [_without_measured(json.loads(line)) for line in path.read_bytes().split(b"\n")[:-1]]
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name in ("record.json", "evaluation.json"):
            found[name]["files"] = sorted(found[name].get("files", {}))
    return found


def of_training(results: Mapping[str, Any]) -> dict[str, Any]:
    """Select the results that do not depend on evaluations."""
    kept = {name: value for name, value in results.items() if name not in OF_EVALUATIONS and not is_of_one(name)}
    record = {key: value for key, value in results.get("record.json", {}).items() if key not in OF_THE_DEFAULT}
    return kept | {"record.json": record}


def of_evaluation(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Select the results in the folder of one evaluation."""
    return {path: value for path, value in results.items() if path.startswith(f"{EVALUATIONS_NAME}/{name}/")}


def is_of_one(name: str) -> bool:
    """Return whether a file is in an evaluation's folder."""
    return name.startswith(f"{EVALUATIONS_NAME}/")


def _without_measured(value: Any, *, presence: bool = False) -> Any:
    """Remove measured figures from plain values, or with `presence` replace them by whether there is one."""
    if isinstance(value, list):
        return [_without_measured(part, presence=presence) for part in value]
    if not isinstance(value, dict):
        return value
    left_out = (*MEASURED, *MEASURED_IF_LONG)
    kept = {key: _without_measured(part, presence=presence) for key, part in value.items() if key not in left_out}
    return kept | {key: part is not None for key, part in value.items() if presence and key in MEASURED}


def differences(reference: Any, found: Any, place: str = "") -> list[str]:
    """Return the places in which two trees of plain values differ."""
    if isinstance(reference, dict) and isinstance(found, dict):
        keys = sorted(reference.keys() | found.keys())
        return [
            line
            for key in keys
            for line in differences(reference.get(key), found.get(key), f"{place}/{key}".strip("/"))
        ]
    if isinstance(reference, list) and isinstance(found, list) and len(reference) == len(found):
        return [
            line
            for number, (one, other) in enumerate(zip(reference, found, strict=True))
            for line in differences(one, other, f"{place}[{number}]")
        ]
    return [] if reference == found else [f"{place}: {str(reference)[:120]} -> {str(found)[:120]}"]


def check_beginning(whole: Path, part: Path, steps: float = math.inf) -> None:
    """Check that a growing file's lines are a prefix of the undisturbed file, ignoring measured figures.

    Args:
        whole: The undisturbed file.
        part: The file to check; may be missing.
        steps: Lines of later steps are ignored.
    """
    if not part.is_file():
        return
    lines = [_without_measured(json.loads(line)) for line in part.read_bytes().split(b"\n")[:-1]]
    lines = [line for line in lines if line.get("step", 0) <= steps]
    expected = [_without_measured(json.loads(line)) for line in whole.read_bytes().split(b"\n")[:-1]]
    expect(len(lines) <= len(expected), DIFFERENT, f"{part.name}: {len(lines)} lines, {len(expected)} undisturbed")
    found = differences(expected[: len(lines)], lines, part.name)
    expect(not found, DIFFERENT, "; ".join(found[:4]))


def leftovers(folder: Path) -> list[str]:
    """Return temporary files of writes that a process did not finish."""
    return [str(path.relative_to(folder)) for path in folder.rglob(f"{TEMPORARY_PREFIX}*")]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, except lock files."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".lock", ".lease")
    }
