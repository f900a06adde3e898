"""The door to models: what a finished run came to, in several forms, each of them measured."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from medqa_finetune.config.command_line import parse_options, run_door, wants_help
from medqa_finetune.errors import EXIT_DONE, NO_VALUE, ConfigError, Fault, MedQAError, brief
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.stopping import EXIT_OFFSET, LAUNCHER_VARIABLE
from medqa_finetune.variants.request_options import Wishes

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell

USAGE = """\
Make models of a finished run, each in a folder of its own with safetensors, tokenizer and metadata.json, and measure
them: size, memory, speed, scores on the run's own test questions. Run again, it leaves finished ones alone.

  python -m medqa_finetune.export run=DIR                            all that the run's method allows
  python -m medqa_finetune.export run=DIR variants=[merged]
  python -m medqa_finetune.export pipeline=variants model=phi-2 samples=200 epochs=1
                                                                     train, then base, quantized, lora, lora_quantized
Variants:
  base            the untuned model
  quantized       the same, quantized (4 bits, or as the run was trained)
  lora            the adapter alone, as it was trained
  lora_quantized  the tuned model: adapter merged, then quantized
  merged          the tuned model, adapter merged into the (dequantized) base
Options:
  overwrite=true|false        move aside what is there, and make it anew                    default false
  format=text|json            a table, or one JSON object                                   default text
  export.to=DIR               takes a folder per variant, variants.csv, variants.png        default <run>/export
  export.base=DIR             where the base model lies now                               default where the run found it
  export.max_samples=N        questions to measure on                                       default all of the run's
  export.measure=true|false   let each variant answer the questions, in a process of its own    default true
  export.quantization=auto|nf4|fp4|int8   auto: as the run was trained, nf4 else            default auto
  export.dtype=auto|fp32|bf16|fp16        of weights that are not quantized; auto: as the base's files   default auto
With pipeline=variants:
  samples=N                   training pairs (data.train_size)
  epochs=N                    passes over them (train.epochs)
  and every group and key that `python -m medqa_finetune.train --help` lists
"""
PREFIX = "export."
CHOICES = {
    "pipeline": ("variants",),
    "format": ("text", "json"),
    "quantization": ("auto", "nf4", "fp4", "int8"),
    "dtype": ("auto", "fp32", "bf16", "fp16"),
}
MANY = ("-m", "--multirun")
BARE = ("run", "pipeline", "variants", "samples", "epochs", "overwrite", "format")


@dataclasses.dataclass(frozen=True)
class ExportOptions(Wishes):
    """What can be typed after `export`; exactly one of `run` and `pipeline` must be.

    Attributes:
        run: Folder of a finished run.
        pipeline: `variants`: train first, where that has not been done; `variants` then stands for the usual four.
        samples: Training pairs, for a pipeline; None as the configuration has it.
        epochs: Passes over them, for a pipeline.
        format: `text` or `json`.

    Raises:
        ConfigError: an impossible choice.
    """

    run: str | None = None
    pipeline: str | None = None
    samples: int | None = None
    epochs: float | None = None
    format: str = "text"

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ConfigError(*faults)

    def _faults(self) -> Iterator[Fault]:
        hint = "Give one of run=DIR and pipeline=variants; --help says more."
        if self.run is None and self.pipeline is None:
            yield Fault("missing-key", "nothing says what to export", hint=hint)
        if self.run is not None and self.pipeline is not None:
            yield Fault("conflict", f"run={self.run} is given as well", key="pipeline", got=self.pipeline, hint=hint)
        yield from self._choice_faults()
        whole = {"samples": self.samples, f"{PREFIX}max_samples": self.max_samples}
        for key, number in whole.items():
            if number is not None and number < 1:
                yield Fault("out-of-range", "must be an integer ≥ 1", key=key, got=number)
        if self.epochs is not None and not (math.isfinite(self.epochs) and self.epochs > 0):
            yield Fault("out-of-range", "must be a number above 0", key="epochs", got=self.epochs)
        for key in ("samples", "epochs"):
            if self.run is not None and getattr(self, key) is not None:
                problem = "is for pipeline=variants, since what run=DIR was trained on is settled"
                yield Fault("conflict", problem, key=key, got=getattr(self, key))
        if self.to is not None and not self.to.strip():
            yield Fault("empty", "must be a folder", key=f"{PREFIX}to", got=self.to)

    def _choice_faults(self) -> Iterator[Fault]:
        for name, allowed in CHOICES.items():
            value, key = getattr(self, name), name if name in BARE else PREFIX + name
            if value not in allowed and not (value is None and name == "pipeline"):
                yield Fault("not-allowed", f"no such {name}", key=key, got=value, allowed=allowed)


def main() -> NoReturn:
    """Export what the command line names, and end the process."""
    run_door(export)


def export(arguments: list[str]) -> int:
    """Make and measure what `arguments` ask for, print the table, and return the exit code.

    Raises:
        MedQAError: something asked for cannot be done; says what.
    """
    if wants_help(arguments):
        print(USAGE, end="")
        return EXIT_DONE
    own, rest = split(arguments)
    options = parse_own(own)
    wishes: Wishes = options
    if options.pipeline is not None:
        # Imported here, so that bad options are refused at once.
        from medqa_finetune.variants.kinds import PIPELINE

        wishes = dataclasses.replace(options, variants=options.variants or list(PIPELINE))
        cell = pipeline_cell(options, rest)
        code = train_first(cell, wishes)
        if code != EXIT_DONE:
            return code
        run = cell.run
    elif rest:
        key, equals, value = rest[0].partition("=")
        names = [field.name for field in dataclasses.fields(ExportOptions)]
        allowed = (*BARE, *(PREFIX + name for name in names if name not in BARE))
        got = value if equals else NO_VALUE
        raise ConfigError(Fault("unknown-key", "no such key with run=DIR", key=brief(key), got=got, allowed=allowed))
    else:
        run = RunDir(Path(str(options.run)))
    return _export(run, wishes, options.format)


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what was typed of this command's own options, and the rest, which is a run's configuration."""
    own = [each for each in arguments if each.startswith(PREFIX) or each.partition("=")[0] in BARE]
    return own, [argument for argument in arguments if argument not in own]


def parse_own(arguments: Sequence[str]) -> ExportOptions:
    """Return the command's own options.

    Raises:
        ConfigError: an unknown or repeated key, or a value of the wrong type; names the key as it is typed.
    """
    return parse_options(ExportOptions, arguments, prefix=PREFIX, bare=BARE)


def pipeline_cell(options: ExportOptions, arguments: Sequence[str]) -> "Cell":
    """Return the run that a pipeline trains, checked and named as `train` would.

    Raises:
        MedQAError: a setting is impossible, or the corpus or model is not there.
    """
    hint = "Start another one for another model."
    faults = [
        Fault("not-supported", "one pipeline at a time", key=flag, hint=hint) for flag in arguments if flag in MANY
    ]
    keys = {argument.partition("=")[0] for argument in arguments}
    for key, mine in (("data", "samples"), ("data.train_size", "samples"), ("data.name", "samples"),
                      ("train.epochs", "epochs")):  # fmt: skip
        if key in keys and getattr(options, mine) is not None:
            got, problem = getattr(options, mine), f"{key} is given as well and says the same"
            faults.append(Fault("conflict", problem, key=mine, got=got, hint="Give one of them."))
    if faults:
        raise ConfigError(*faults)
    typed = [*arguments, *(["overwrite=true"] if options.overwrite else [])]
    if options.epochs is not None:
        typed.append(f"train.epochs={options.epochs:g}")
    if options.samples is not None:
        scale = _compose(typed).config.data.scale
        # `samples` counts pairs, and profiles scale `data.train_size`; a scale of 1 at most loses none by rounding.
        typed += [f"data.train_size={round(options.samples / scale)}", f"data.name={options.samples}"]
    return _compose(typed)


def _compose(arguments: Sequence[str]) -> "Cell":
    from hydra.core.hydra_config import HydraConfig

    from medqa_finetune.launch.cells import make_cell
    from medqa_finetune.launch.compose import compose_and_call

    made: list[Any] = []

    def take(composed: Any) -> None:
        # An error would pass through Hydra, which adds lines of its own.
        try:
            made.append(make_cell(composed, HydraConfig.get(), tuple(arguments)))
        except MedQAError as error:
            made.append(error)

    compose_and_call(take, arguments)
    if isinstance(made[0], MedQAError):
        raise made[0]
    return cast("Cell", made[0])


def train_first(cell: "Cell", wishes: Wishes) -> int:
    """Train a run as `train` does, in a process that takes its memory with it; return its exit code.

    Raises:
        MedQAError: what is to be exported afterwards cannot be, or the run cannot start.
    """
    from medqa_finetune.run_state.earlier import find_earlier
    from medqa_finetune.variants.request import check_intended

    check_intended(cell.config, wishes)
    record = find_earlier(cell)
    if record is not None and record.status == "done":
        return EXIT_DONE
    command = [sys.executable, "-m", "medqa_finetune.train", *cell.overrides]
    # It stops when this process does, however that ends: its standard input is then closed.
    told = {LAUNCHER_VARIABLE: str(os.getpid())}
    with subprocess.Popen(command, env=os.environ | told, stdin=subprocess.PIPE) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal has told both; training writes a checkpoint first.
            process.wait()
            raise
    return code if code >= 0 else EXIT_OFFSET - code


def _export(run: RunDir, wishes: Wishes, form: str) -> int:
    from medqa_finetune.log import log_to_terminal
    from medqa_finetune.variants.build import make_variants
    from medqa_finetune.variants.request import check_order
    from medqa_finetune.variants.table import CSV_NAME, as_text, rows, write_csv

    log_to_terminal()
    order = check_order(run, wishes)
    table = rows(make_variants(order))
    write_csv(table, order.folder / CSV_NAME)
    written = [order.folder / CSV_NAME]
    if any(row["n"] is not None for row in table):
        # seaborn takes a second to load.
        from medqa_finetune.variants.plot import PNG_NAME, write_plot

        record = order.record
        title = f"{record.model}, {record.method}, {order.config.train_size or 'no'} pairs, {table[0]['n']} questions"
        write_plot(table, title, order.folder / PNG_NAME)
        written.append(order.folder / PNG_NAME)
    if form == "json":
        print(json.dumps({"folder": str(order.folder), "variants": table}, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join([as_text(table), "", *(f"wrote {path}" for path in [*written])]))
    return EXIT_DONE


if __name__ == "__main__":
    main()
