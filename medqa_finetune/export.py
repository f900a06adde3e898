"""Command-line entry point for export: makes models of a finished run in several variants and measures each."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.command_options import describe, option, option_keys, parse_options, split_options
from medqa_finetune.config.composition_line import read_composition
from medqa_finetune.config.corrections import command_of
from medqa_finetune.config.flags import CommandLine
from medqa_finetune.config.labels import method_label
from medqa_finetune.config.ranges import above_zero, at_least
from medqa_finetune.config.schema_faults import unknown_key
from medqa_finetune.errors import EXIT_DONE, NO_VALUE, ConfigError, Fault, brief
from medqa_finetune.languages.translate import say
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.stopping import EXIT_OFFSET, LAUNCHER_VARIABLE
from medqa_finetune.variants.request import ExportRequest

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell


@dataclasses.dataclass(frozen=True)
class ExportOptions(ExportRequest):
    """Options of `export`; exactly one of `run` and `pipeline` is given."""

    run: str | None = option(None, "folder of a finished run", value="DIR", bare=True)
    pipeline: str | None = option(
        None,
        "train first if that is not done; variants is then [base,quantized,lora,lora_quantized] if left out",
        allowed=("variants",),
        bare=True,
    )
    samples: int | None = option(
        None, "pipeline: training examples (data.train_size)", check=partial(at_least, least=1), bare=True
    )
    epochs: float | None = option(None, "pipeline: passes over them (train.epochs)", check=above_zero, bare=True)
    format: str = option("text", "a table, or one JSON object", allowed=("text", "json"), bare=True)

    def conflicts(self) -> Iterator[Fault]:
        """Yield faults of options that exclude each other, and of naming nothing to export."""
        hint = "Give one of run=DIR and pipeline=variants; see --help."
        if self.run is None and self.pipeline is None:
            yield Fault("missing-key", "neither a run nor a pipeline is given", hint=hint)
        if self.run is not None and self.pipeline is not None:
            yield Fault("conflict", f"run={self.run} is given as well", key="pipeline", got=self.pipeline, hint=hint)
        for key in ("samples", "epochs"):
            if self.run is not None and getattr(self, key) is not None:
                problem = "is for pipeline=variants; run=DIR is trained already"
                yield Fault("conflict", problem, key=key, got=getattr(self, key))
        if self.to is not None and not self.to.strip():
            yield Fault("empty", "must be a folder", key=f"{self.PREFIX}to", got=self.to)


USAGE = f"""\
usage: python -m medqa_finetune.export key=value …

Makes models of a finished run, each in a folder of its own with safetensors, tokenizer and metadata.json, and measures
them: size, memory, speed, scores on the run's own test questions. Finished ones are left as they are.

  python -m medqa_finetune.export run=DIR                                   all variants that the run's method allows
  python -m medqa_finetune.export run=DIR variants=[merged]
  python -m medqa_finetune.export pipeline=variants model=phi-2 samples=200 epochs=1

variants:
  base                      the untuned model
  quantized                 the untuned model, quantized (4 bits, or as the run was trained)
  lora                      the adapter alone, as it was trained
  lora_quantized            the tuned model: adapter merged, then quantized
  merged                    the tuned model: adapter merged into the (dequantized) base

options:
{describe(ExportOptions)}\
with pipeline=variants also every group and key that `python -m medqa_finetune.train --help` lists
"""


def main() -> NoReturn:
    """Run the command `export`, and end the process."""
    run_command(export)


def export(arguments: list[str]) -> int:
    """Make and measure variants as `arguments` ask, print the table, and return the exit code.

    Raises:
        MedQAError: an option is impossible, the training failed, or a variant cannot be made or measured.
    """
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    line = read_composition(arguments, ExportOptions)
    own, rest = split_options(ExportOptions, line.overrides)
    if faults := list(flag_faults(line)):
        raise ConfigError(*faults)
    options = parse_options(ExportOptions, own)
    request: ExportRequest = options
    if options.pipeline is not None:
        # Imported late, so that bad options are refused at once.
        from medqa_finetune.variants.kinds import PIPELINE

        request = dataclasses.replace(options, variants=options.variants or list(PIPELINE))
        cell = pipeline_cell(options, [*line.typed_flags, *rest])
        code = train_first(cell, request)
        if code != EXIT_DONE:
            return code
        run = cell.run
    elif rest:
        key, equals, value = rest[0].partition("=")
        fault = unknown_key(brief(key), value if equals else NO_VALUE, option_keys(ExportOptions))
        raise ConfigError(fault.but(problem="there is no such key with run=DIR"))
    else:
        run = RunDir(Path(str(options.run)))
    return _export(run, request, options.format)


def flag_faults(line: CommandLine) -> Iterator[Fault]:
    """Yield a fault of every flag but those that say where configuration files are."""
    for flag in line.flags:
        if flag == "--multirun":
            hint = "Start another one for another model."
            yield Fault("not-supported", "one pipeline at a time", key=flag, hint=hint)
        elif not flag.startswith("--config-"):
            hint = f"Type `{command_of([], 'train')} {flag} …` for the settings of the training."
            yield Fault("unknown-flag", "there is no such flag", key=flag, hint=hint)


def pipeline_cell(options: ExportOptions, arguments: Sequence[str]) -> "Cell":
    """Return the cell that a pipeline trains, checked and named as by `train`.

    Raises:
        MedQAError: a setting is impossible, or the corpus or model is missing.
    """
    faults = []
    keys = {argument.partition("=")[0] for argument in arguments}
    for key, mine in (
        ("data", "samples"),
        ("data.train_size", "samples"),
        ("data.name", "samples"),
        ("train.epochs", "epochs"),
    ):
        if key in keys and getattr(options, mine) is not None:
            got, problem = getattr(options, mine), f"{key} is given as well and says the same"
            faults.append(Fault("conflict", problem, key=mine, got=got, hint="Give one of them."))
    if faults:
        raise ConfigError(*faults)
    # Loads Hydra, for which `--help` need not wait.
    from medqa_finetune.config.no_effect import refuse_unused_settings

    typed = [*arguments, *(["overwrite=true"] if options.overwrite else [])]
    if options.epochs is not None:
        typed.append(f"train.epochs={options.epochs:g}")
    if options.samples is not None:
        scale = _compose(typed).config.data.scale
        # `samples` is the size after scaling by the profile; scales are ≤ 1, so rounding does not change it.
        typed.append(f"data.train_size={round(options.samples / scale)}")
    cell = _compose(typed)
    refuse_unused_settings([(cell.config, typed)])
    return cell


def _compose(arguments: Sequence[str]) -> "Cell":
    from hydra.core.hydra_config import HydraConfig

    from medqa_finetune.launch.compose import compose_and_call, make_cell

    cells: list[Cell] = []
    compose_and_call(lambda composed: cells.append(make_cell(composed, HydraConfig.get(), tuple(arguments))), arguments)
    return cells[0]


def train_first(cell: "Cell", request: ExportRequest) -> int:
    """Train a run as `train` does, in a child process, which frees its memory; return its exit code.

    Raises:
        MedQAError: the export cannot follow, or the run cannot start.
    """
    from medqa_finetune.run_state.resume import earlier_record
    from medqa_finetune.variants.job import check_before_training

    check_before_training(cell.config, request)
    record = earlier_record(cell)
    if record is not None and record.status == "done":
        return EXIT_DONE
    command = [sys.executable, "-m", "medqa_finetune.train", *cell.overrides]
    # The child stops when this process ends, which closes its standard input.
    launched_by = {LAUNCHER_VARIABLE: str(os.getpid())}
    with subprocess.Popen(command, env=os.environ | launched_by, stdin=subprocess.PIPE) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # Ctrl-C reaches both processes; the training writes a checkpoint before it ends.
            process.wait()
            raise
    return code if code >= 0 else EXIT_OFFSET - code


def _export(run: RunDir, request: ExportRequest, form: str) -> int:
    from medqa_finetune.log import log_to_terminal
    from medqa_finetune.variants.build import make_variants
    from medqa_finetune.variants.job import check_request
    from medqa_finetune.variants.table import CSV_NAME, as_text, rows, write_csv

    log_to_terminal()
    job = check_request(run, request)
    table = rows(make_variants(job))
    write_csv(table, job.folder / CSV_NAME)
    written = [job.folder / CSV_NAME]
    if any(row["n"] is not None for row in table):
        # seaborn takes a second to load.
        from medqa_finetune.variants.plot import write_plot

        record = job.record
        size = job.config.train_size
        pairs = say("{count} pairs", count=f"{size:,}") if size else say("no pairs")
        questions = say("{count} questions", count=f"{table[0]['n']:,}")
        title = ", ".join([record.model, method_label(record.method), pairs, questions])
        written += write_plot(table, title, job.folder)
    if form == "json":
        print(json.dumps({"folder": str(job.folder), "variants": table}, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join([as_text(table), "", *(say("wrote {path}", path=path) for path in written)]))
    return EXIT_DONE


if __name__ == "__main__":
    main()
