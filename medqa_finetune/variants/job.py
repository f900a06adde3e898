"""Checks the request for an export, before anything is loaded or written, and turns it into a job."""

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from medqa_finetune.architecture.files import stored_precision, weight_files
from medqa_finetune.architecture.size import read_size
from medqa_finetune.config.compose import restore_config
from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.errors import ConfigError, DataError, Fault, ModelError
from medqa_finetune.memory import in_units
from medqa_finetune.methods.registry import method_of, model_method
from medqa_finetune.model.locate import fingerprint_model, locate_model
from medqa_finetune.precision import WIDTH, Precision
from medqa_finetune.record.checksums import damages
from medqa_finetune.record.files import existing_part
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record
from medqa_finetune.variants.kinds import choose, quantization_of
from medqa_finetune.variants.metadata import Metadata, changes, read_metadata
from medqa_finetune.variants.request import ExportRequest

# Allowance for files that are not estimated: metadata, predictions, plots.
SPARE_BYTES = 16 * 2**20


@dataclasses.dataclass(frozen=True)
class ExportJob:
    """A checked export of a finished run.

    Attributes:
        run: The run.
        record: The run's record.
        config: The run's settings.
        base: Folder of its base model.
        folder: Receives one folder per variant, and the table.
        variants: Names, in building order.
        quantization: Settings of the quantized variants.
        dtype: Of weights that are not quantized: `bf16`, `fp16` or `fp32`.
        request: The request that was checked.
        existing: Variants finished by an earlier export, by name.
    """

    run: RunDir
    record: Record
    config: Config
    base: Path
    folder: Path
    variants: list[str]
    quantization: MethodConfig
    dtype: Precision
    request: ExportRequest
    existing: Mapping[str, Metadata] = dataclasses.field(default_factory=dict)

    def settings(self, variant: str) -> dict[str, Any]:
        """Return the settings that, together with the run, determine a variant's weights."""
        stored = {"dtype": self.dtype} if variant not in ("base", "lora") else {}
        if variant not in ("quantized", "lora_quantized"):
            return stored
        held = self.quantization
        return stored | {"quantization": held.quantization, "double_quantization": held.double_quantization}

    def made_from(self) -> dict[str, Any]:
        """Return the identity of the run and base model for the variants' metadata."""
        record = self.record
        trained = {name: stamp.sha256 for name, stamp in record.files.items() if name.startswith("adapter/")}
        return {
            "run": record.name,
            "identity": record.identity,
            "method": record.method,
            "data": record.data,
            "model": record.model,
            "seed": record.seed,
            "base_fingerprint": record.config["model"]["fingerprint"],
            "trained_sha256": trained,
            "run_folder": str(self.run.path.absolute()),
            "base_folder": str(self.base.absolute()),
        }


# Keys of `made_from` that may change: locations.
PLACES = ("run_folder", "base_folder")


def check_request(run: RunDir, request: ExportRequest) -> ExportJob:
    """Turn a request into a job, after every check that does not need torch.

    Raises:
        MedQAError: the run is missing, not done or damaged; its base is missing or has changed; a variant is not
            possible for its method; existing variants have other settings; or the disk is too small.
    """
    record = _finished(run)
    config = restore_config(record.config)
    if not method_of(config.method).loads_model:
        problem = "its predictions are retrieved, so there is no model to export"
        raise ConfigError(_fault_of(run, "no-model", problem))
    names = choose(request.variants, config.method)
    _check_measure(config, request)
    _check_files(run, record)
    base = _base_of(run, record, config, request.base)
    dtype = stored_precision(base) if request.dtype == "auto" else cast(Precision, request.dtype)
    folder = Path(request.to) if request.to is not None else run.export_path
    job = ExportJob(
        run, record, config, base, folder, names, quantization_of(request.quantization, config.method), dtype, request
    )
    _check_place(folder)
    existing = {} if request.overwrite else _existing(job)
    job = dataclasses.replace(job, existing=existing)
    check_room(folder, [name for name in names if name not in existing], _sizes(job))
    return job


def _fault_of(run: RunDir, code: str, problem: str, hint: str = "") -> Fault:
    return Fault(code, problem, key="run", got=str(run.path), hint=hint)


def check_before_training(config: Config, request: ExportRequest) -> None:
    """Check a request for a run that is not trained yet.

    Raises:
        MedQAError: a variant is not possible for the run's method, or the disk is too small.
    """
    names = choose(request.variants, config.method)
    _check_measure(config, request)
    base = locate_model(config.model)
    folder = Path(request.to) if request.to is not None else RunDir(config.run_path).export_path
    _check_place(folder)
    dtype = stored_precision(base) if request.dtype == "auto" else cast(Precision, request.dtype)
    missing = [name for name in names if not (folder / name).exists() or request.overwrite]
    sizes = expected_sizes(base, quantization_of(request.quantization, config.method), dtype)
    check_room(folder, missing, sizes)


def _check_measure(config: Config, request: ExportRequest) -> None:
    if request.measure and not config.chats:
        problem = "running text has no questions to measure variants on"
        hint = "Give export.measure=false to export alone."
        raise ConfigError(Fault("no-questions", problem, key="corpus", got=config.corpus.name, hint=hint))


def _finished(run: RunDir) -> Record:
    record = run.read()
    if record is None:
        hint = "Give the folder of a finished run."
        raise DataError(_fault_of(run, "not-a-run", f"has no {run.record_path.name}", hint))
    if record.status != "done":
        problem = f"its status is {record.status}, and only a run that is done can be exported"
        raise DataError(_fault_of(run, "run-not-done", problem, "The command that started it resumes it."))
    return record


def _check_files(run: RunDir, record: Record) -> None:
    needed = {name: stamp for name, stamp in record.files.items() if name.startswith(("adapter/", "predictions.jsonl"))}
    damaged = damages(run.path, needed)
    if damaged:
        hint = "Put it back, or train again with overwrite=true."
        raise ModelError(_fault_of(run, "changed-file", f"{damaged[0]} since the run was done", hint))


def _base_of(run: RunDir, record: Record, config: Config, moved_to: str | None) -> Path:
    model = config.model if moved_to is None else dataclasses.replace(config.model, path=moved_to, repository=None)
    try:
        folder = locate_model(model)
    except ModelError as error:
        if moved_to is not None:
            faults = (each.but(key="export.base") if each.key == "model.path" else each for each in error.faults)
            raise ModelError(*faults) from None
        hint = f"This is the base model of run={run.path}; if it lies elsewhere now, give export.base=DIR."
        raise ModelError(*(fault.but(hint=f"{fault.hint} {hint}".strip()) for fault in error.faults)) from None
    trained_on = record.config["model"]["fingerprint"]
    found = fingerprint_model(folder, config.model.chat_template)
    if found != trained_on:
        problem = (
            f"was trained on another base model than the one in {folder} (sha256 {trained_on[:12]}…, not {found[:12]}…)"
        )
        hint = "Give export.base=DIR with the model that it was trained on."
        raise ModelError(_fault_of(run, "other-base-model", problem, hint))
    return folder


def _check_place(folder: Path) -> None:
    place = existing_part(folder)
    if not place.is_dir():
        raise ConfigError(_no_place(folder, "not-a-folder", f"{place} is not a folder", "Give a new name or a folder."))
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(_no_place(folder, "not-writable", f"{place} is not writable", "Give a folder that is."))


def _no_place(folder: Path, code: str, problem: str, hint: str) -> Fault:
    return Fault(code, problem, key="export.to", got=str(folder), hint=hint)


def _existing(job: ExportJob) -> dict[str, Metadata]:
    """Return the variants that an earlier export finished with the same settings.

    Raises:
        ConfigError: one is of another run, has other settings, or is damaged.
    """
    found = {}
    for name in job.variants:
        folder = job.folder / name
        metadata = read_metadata(folder)
        if metadata is None:
            if folder.exists():
                problem, hint = "exists and is no exported variant", "Move it away, or give export.to=DIR."
                raise ConfigError(Fault("not-an-export", problem, file=str(folder), hint=hint))
            continue
        differences = [*_differences(job, name, metadata), *map(str, damages(folder, metadata.files))]
        if differences:
            problem = f"holds another export ({'; '.join(differences)})"
            hint = "overwrite=true moves it aside and makes it again; export.to=DIR keeps both."
            raise ConfigError(Fault("other-export", problem, file=str(folder), hint=hint))
        found[name] = metadata
    return found


def _differences(job: ExportJob, name: str, metadata: Metadata) -> list[str]:
    before, now = ({k: v for k, v in each.items() if k not in PLACES} for each in (metadata.made_from, job.made_from()))
    found = changes(before, now) + changes(metadata.settings, job.settings(name))
    measured = metadata.measured
    if job.request.measure and measured is not None and measured.max_samples != job.request.max_samples:
        found.append(f"export.max_samples: {measured.max_samples} -> {job.request.max_samples}")
    return found


def _sizes(job: ExportJob) -> dict[str, int]:
    adapter = sum(stamp.size for name, stamp in job.record.files.items() if name.startswith("adapter/"))
    return expected_sizes(job.base, job.quantization, job.dtype) | {"lora": adapter}


def expected_sizes(base: Path, quantization: MethodConfig, dtype: Precision) -> dict[str, int]:
    """Estimate the bytes on disk of each variant but the adapter, from the base's files.

    Args:
        base: Folder of the base model.
        quantization: Settings of the quantized variants.
        dtype: Of weights that are not quantized: `bf16`, `fp16` or `fp32`.
    """
    files = sum(path.stat().st_size for path in weight_files(base))
    size = read_size(base)
    if size is None:
        whole = quantized = files * WIDTH[dtype] // WIDTH["fp16"]
        other = 0
    else:
        other = size.other_bytes
        whole = size.parameters * WIDTH[dtype] + other
        quantized = model_method(quantization).weight_bytes(size, WIDTH[dtype]) + other
    return {"base": files + other, "quantized": quantized, "lora_quantized": quantized, "merged": whole}


def check_room(folder: Path, names: Sequence[str], sizes: Mapping[str, int]) -> None:
    """Check that the disk has room for the missing variants.

    Raises:
        ConfigError: there is too little space.
    """
    if not names:
        return
    # lora_quantized is merged on disk first.
    aside = sizes["merged"] if "lora_quantized" in names and "merged" not in names else 0
    # Before training, the training's own disk check counts the adapter.
    needed = sum(sizes.get(name, 0) for name in names) + aside + SPARE_BYTES
    free = shutil.disk_usage(existing_part(folder)).free
    if needed > free:
        problem = f"{', '.join(names)} take {in_units(needed)}, and {in_units(free)} are free"
        hint = "Make room, ask for fewer variants, or give export.to=DIR on another disk."
        raise ConfigError(Fault("disk-full", problem, file=str(folder), hint=hint))
