"""Builds and measures the variants of a run, each in its own processes; finished ones are kept."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from medqa_finetune.child_process import NoReplyError, call
from medqa_finetune.config.chat_form import form_of
from medqa_finetune.errors import ConfigError, Fault, RunError
from medqa_finetune.memory import in_units
from medqa_finetune.record.checksums import stamps_below
from medqa_finetune.record.files import replace_folder, sweep
from medqa_finetune.record.run_dir import RunDir, now
from medqa_finetune.variants.job import ExportJob
from medqa_finetune.variants.kinds import KINDS
from medqa_finetune.variants.measure import MeasureRequest, measure
from medqa_finetune.variants.metadata import METADATA_NAME, Metadata, Needed, read_metadata, write_metadata
from medqa_finetune.variants.table import compare
from medqa_finetune.variants.write_files import WriteRequest, build

log = logging.getLogger(__name__)

ANSWERS_NAME = "answers"

Request = TypeVar("Request", WriteRequest, MeasureRequest)
Reply = TypeVar("Reply")


def make_variants(job: ExportJob) -> dict[str, Metadata]:
    """Build the missing variants of a job, and return the metadata of all in its folder, in table order.

    Raises:
        MedQAError: a variant cannot be built or measured; those before it are complete.
    """
    try:
        with RunDir(job.folder).lock(watches=True):
            sweep(job.folder)
            for name in job.variants:
                _make(job, name)
            return _compared(job.folder)
    except OSError as error:
        problem, hint = f"cannot be written ({error})", "What is finished is whole; the same command continues."
        raise ConfigError(Fault("not-writable", problem, file=str(job.folder), hint=hint)) from None


def _make(job: ExportJob, name: str) -> None:
    folder = job.folder / name
    metadata = job.existing.get(name)
    if metadata is None:
        if folder.exists():  # only with `overwrite`; refused otherwise
            log.info("%s: moved aside to %s", folder, RunDir(folder).move_aside().name)
        answers = RunDir(job.folder / ANSWERS_NAME / name)
        if answers.path.exists():
            answers.move_aside()
        replace_folder(folder, lambda fresh: _fill(job, name, fresh))
        metadata = read_metadata(folder)
    if metadata is None:
        problem = "is gone, because the folder was changed meanwhile"
        raise ConfigError(Fault("file-missing", problem, file=str(folder / METADATA_NAME)))
    done = not job.request.measure or metadata.measured is not None
    log.info("%s: %s; %s%s", folder, metadata.what, in_units(metadata.size_bytes), "" if done else "; measuring it")
    if done:
        return
    measured = _call(measure, _measuring(job, name))
    write_metadata(folder, dataclasses.replace(metadata, measured=measured))


def _fill(job: ExportJob, name: str, fresh: Path) -> None:
    """Write a variant and its metadata into an empty folder."""
    merged = job.folder / "merged"
    making = WriteRequest(
        variant=name,
        folder=fresh,
        base=job.base,
        trained=job.run.adapter_path,
        method=job.config.method,
        quantization=job.quantization,
        precision=job.config.precision,
        dtype=job.dtype,
        merged=merged if "merged" in job.variants else None,
        template=job.config.model.chat_template,
        chat=job.config.chats,
        form=form_of(job.config.model, job.record.data_counts),
    )
    environment = _call(build, making)
    files = stamps_below(fresh)
    metadata = Metadata(
        variant=name,
        what=KINDS[name].what,
        made_from=job.made_from(),
        settings=job.settings(name),
        files=files,
        size_bytes=sum(stamp.size for stamp in files.values()),
        environment=environment,
        finished=now(),
        needs=_needs(job) if KINDS[name].on_base else None,
    )
    write_metadata(fresh, metadata)


def _call(function: Callable[[Request], Reply], request: Request) -> Reply:
    """Call a function in a fresh process, since peak memory is per process and freed at its end.

    Raises:
        MedQAError: the function raised it; RunError where the process ended without a reply.
    """
    try:
        return call(function, request)
    except NoReplyError as error:
        hint = "Its own messages are above."
        raise RunError(Fault("process-ended", str(error), file=str(request.folder), hint=hint)) from None


def _needs(job: ExportJob) -> Needed:
    """Return what loading an adapter requires: the base, quantized as in training."""
    held = job.config.method.quantization
    same = held in ("none", job.quantization.quantization)
    variant = ("base" if held == "none" else "quantized") if same else None
    size = sum(path.stat().st_size for path in job.base.iterdir() if path.is_file())
    return Needed(variant, str(job.base.absolute()), size)


def _measuring(job: ExportJob, name: str) -> MeasureRequest:
    return MeasureRequest(
        folder=job.folder / name,
        base=job.base if KINDS[name].on_base else None,
        method=job.config.method,
        run=job.run.path,
        answers=job.folder / ANSWERS_NAME / name,
        evaluate=job.config.evaluate,
        max_samples=job.request.max_samples,
        max_length=job.config.train.max_length,
        form=form_of(job.config.model, job.record.data_counts),
        precision=job.config.precision,
        threads=job.config.threads,
    )


def _compared(folder: Path) -> dict[str, Metadata]:
    """Write each variant's differences from the others into its metadata, and return all metadata."""
    found: Mapping[str, Metadata | None] = {name: read_metadata(folder / name) for name in KINDS}
    there = {name: metadata for name, metadata in found.items() if metadata is not None}
    compared = compare(there)
    for name, metadata in compared.items():
        write_metadata(folder / name, metadata)
    return compared
