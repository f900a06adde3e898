"""Make and measure the variants of a run, each in processes of its own; what is finished is left alone."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from medqa_finetune.child_process import NoReplyError, call
from medqa_finetune.errors import ConfigError, Fault, RunError
from medqa_finetune.memory import in_units
from medqa_finetune.record.checksums import stamps_below
from medqa_finetune.record.files import replace_folder, sweep
from medqa_finetune.record.run_dir import RunDir, now
from medqa_finetune.variants.kinds import KINDS
from medqa_finetune.variants.measure import Measuring, measure
from medqa_finetune.variants.metadata import METADATA_NAME, Metadata, Needed, read_metadata, write_metadata
from medqa_finetune.variants.request import Order
from medqa_finetune.variants.table import compare
from medqa_finetune.variants.write_files import Making, build

log = logging.getLogger(__name__)

ANSWERS_NAME = "answers"

Request = TypeVar("Request", Making, Measuring)
Reply = TypeVar("Reply")


def make_variants(order: Order) -> dict[str, Metadata]:
    """Make what the order lists and is not there, and return all variants in its folder, in the order of tables.

    Raises:
        MedQAError: a variant cannot be made or measured; those before it are whole.
    """
    try:
        with RunDir(order.folder).lock():
            sweep(order.folder)
            for name in order.variants:
                _make(order, name)
            return _compared(order.folder)
    except OSError as error:
        problem, hint = f"cannot be written ({error})", "What is finished is whole; the same command continues."
        raise ConfigError(Fault("not-writable", problem, file=str(order.folder), hint=hint)) from None


def _make(order: Order, name: str) -> None:
    folder = order.folder / name
    metadata = order.existing.get(name)
    if metadata is None:
        if folder.exists():  # `overwrite` was given, or it would have been refused
            log.info("%s: moved aside to %s", folder, RunDir(folder).move_aside().name)
        answers = RunDir(order.folder / ANSWERS_NAME / name)
        if answers.path.exists():
            answers.move_aside()
        replace_folder(folder, lambda fresh: _fill(order, name, fresh))
        metadata = read_metadata(folder)
    if metadata is None:
        problem = "is gone, because the folder was changed meanwhile"
        raise ConfigError(Fault("file-missing", problem, file=str(folder / METADATA_NAME)))
    done = not order.wishes.measure or metadata.measured is not None
    log.info("%s: %s, %s%s", folder, metadata.what, in_units(metadata.size_bytes), "" if done else "; it answers now")
    if done:
        return
    measured = _call(measure, _measuring(order, name))
    write_metadata(folder, dataclasses.replace(metadata, measured=measured))


def _fill(order: Order, name: str, fresh: Path) -> None:
    """Write a variant and its metadata into an empty folder."""
    merged = order.folder / "merged"
    making = Making(
        variant=name,
        folder=fresh,
        base=order.base,
        trained=order.run.adapter_path,
        method=order.config.method,
        quantization=order.quantization,
        precision=order.config.precision,
        dtype=order.dtype,
        merged=merged if "merged" in order.variants else None,
        template=order.config.model.chat_template,
        chat=order.config.chats,
    )
    environment = _call(build, making)
    files = stamps_below(fresh)
    metadata = Metadata(
        variant=name,
        what=KINDS[name].what,
        made_from=order.made_from(),
        settings=order.settings(name),
        files=files,
        size_bytes=sum(stamp.size for stamp in files.values()),
        environment=environment,
        finished=now(),
        needs=_needs(order) if KINDS[name].beside_base else None,
    )
    write_metadata(fresh, metadata)


def _call(function: Callable[[Request], Reply], request: Request) -> Reply:
    """Call a function in a fresh process: memory is measured by process, and given back whole.

    Raises:
        MedQAError: the function raised it; RunError where the process ended without a reply.
    """
    try:
        return call(function, request)
    except NoReplyError as error:
        hint = "Its own messages are above."
        raise RunError(Fault("process-ended", str(error), file=str(request.folder), hint=hint)) from None


def _needs(order: Order) -> Needed:
    """Return what an adapter must be loaded onto: the base as it was held in training."""
    held = order.config.method.quantization
    same = held in ("none", order.quantization.quantization)
    variant = ("base" if held == "none" else "quantized") if same else None
    size = sum(path.stat().st_size for path in order.base.iterdir() if path.is_file())
    return Needed(variant, str(order.base.absolute()), size)


def _measuring(order: Order, name: str) -> Measuring:
    return Measuring(
        folder=order.folder / name,
        base=order.base if KINDS[name].beside_base else None,
        method=order.config.method,
        run=order.run.path,
        answers=order.folder / ANSWERS_NAME / name,
        evaluate=order.config.evaluate,
        max_samples=order.wishes.max_samples,
        max_length=order.config.train.max_length,
        precision=order.config.precision,
        threads=order.config.threads,
    )


def _compared(folder: Path) -> dict[str, Metadata]:
    """Note in every variant what it differs in from others, and return them all."""
    found: Mapping[str, Metadata | None] = {name: read_metadata(folder / name) for name in KINDS}
    there = {name: metadata for name, metadata in found.items() if metadata is not None}
    compared = compare(there)
    for name, metadata in compared.items():
        write_metadata(folder / name, metadata)
    return compared
