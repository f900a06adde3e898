"""Train and evaluate one experiment, or with `-m` a matrix of them: `python -m medqa_finetune.train [-m] key=value`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.composition_line import read_composition
from medqa_finetune.config.groups import conf_folder, conf_folders
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault
from medqa_finetune.languages.translate import Kind, translated
from medqa_finetune.ranks import OF_A_CELL, refuse_several, this_place
from medqa_finetune.stopping import LAUNCHER_VARIABLE, stop_with_parent

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Schema fields that users cannot set.
NOT_TYPED = ("run_name", "evaluation_name", "interpolated")
USAGE = """usage: python -m medqa_finetune.train [-m] [group=choice …] [key=value …]

Trains and evaluates one experiment; with -m, one per combination of comma-separated values, each in a process of its
own. Run again, it leaves finished runs untouched and tries the others. Results go to outputs/ (outputs=DIR).

  python -m medqa_finetune.train -m profile=demo                              small runs on embedded data, in minutes
  python -m medqa_finetune.train -m method=lora,qlora data=20k,50k,100k       six experiments
  python -m medqa_finetune.train method=qlora data=20k corpus=jsonl corpus.path=pairs.jsonl

A matrix runs one cell per visible GPU, or one at a time without; hydra.launcher.max_parallel=N, .gpus_per_cell=N,
.retries=N (of cells that crash) and .grace_seconds=N (to write a checkpoint when stopped) change that.
hydra/launcher=slurm and hydra/launcher=ray run the cells on a cluster; hydra.launcher.wait=false leaves them there.
A cell trains on the N GPUs of .gpus_per_cell=N, or of torchrun --nproc_per_node=N -m medqa_finetune.train.

storage=DIR|URL keeps run folders for other machines; time_limit=11h stops in time, with checkpoints.

groups and their choices (* is the default):
"""


def main() -> None:
    """Command-line entry point; exit codes: 0 done, 1 a run failed, 2 bad input, 130, 142 or 143 interrupted."""
    run_command(train, several=True)


def train(arguments: list[str]) -> int:
    """Train and evaluate the experiment or matrix that `arguments` compose; return the exit code.

    Raises:
        MedQAError: an argument is impossible, or a run failed.
    """
    if wants_help(arguments):
        print_help(USAGE + describe_groups(conf_folders(arguments)) + "\n\n" + describe_keys())
        return EXIT_DONE
    line = read_composition(arguments)
    for card in (argument for argument in line.overrides if argument.startswith("gpu=")):
        hint = (
            "`python -m medqa_finetune.plan gpu=CARD` plans for a card; training takes the GPUs that "
            "CUDA_VISIBLE_DEVICES names."
        )
        got = card.partition("=")[2]
        raise ConfigError(Fault("unknown-key", "there is no such key", key="gpu", got=got, hint=hint))
    for planned in (argument for argument in line.overrides if argument.startswith("plan.")):
        hint = "Give it to `python -m medqa_finetune.plan`."
        raise ConfigError(Fault("unknown-key", "there is no such key", key=planned.partition("=")[0], hint=hint))
    for pipeline in (argument for argument in line.overrides if argument.startswith("pipeline=")):
        hint = "Give it to `python -m medqa_finetune.export`, which trains first."
        raise ConfigError(Fault("unknown-key", "there is no such key", key=pipeline.partition("=")[0], hint=hint))
    if this_place().rank > 0:
        from medqa_finetune.follow import follow

        return follow()
    if LAUNCHER_VARIABLE in os.environ:
        stop_with_parent()
    from medqa_finetune.launch.compose import compose_and_call

    compose_and_call(_run_one, arguments)
    return EXIT_DONE


def _run_one(composed: "DictConfig") -> float | None:
    """Run one cell; return what Hydra's sweepers minimize."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from medqa_finetune.compat.hydra import as_typed
    from medqa_finetune.config.compose import readable
    from medqa_finetune.config.identity import DEFAULT_EVALUATION
    from medqa_finetune.config.no_effect import refuse_of_a_matrix, refuse_unused_settings
    from medqa_finetune.experiment import run_experiment
    from medqa_finetune.launch.compose import make_cell
    from medqa_finetune.launch.exit_status import summarize_record
    from medqa_finetune.launch.planned import planned_cell
    from medqa_finetune.launch.task import value_of_trial
    from medqa_finetune.launch.time_limit import time_limited
    from medqa_finetune.launch.validate import scaled_size
    from medqa_finetune.log import log_to_terminal

    log_to_terminal()
    hydra_config = HydraConfig.get()
    is_single = hydra_config.mode == RunMode.RUN and LAUNCHER_VARIABLE not in os.environ
    if is_single:
        # What can never work is said before a corpus is fetched, or a model that is missing.
        refuse_of_a_matrix(as_typed(hydra_config.overrides.hydra))
        refuse_unused_settings(readable([composed], [as_typed(hydra_config.overrides.task)]))
    if hydra_config.mode == RunMode.MULTIRUN:
        refuse_several(OF_A_CELL)
    cell = planned_cell(composed) or make_cell(composed, hydra_config)
    if is_single and (text := scaled_size(cell.config, as_typed(hydra_config.overrides.task))):
        print(translated(text, Kind.SAID), file=sys.stderr)
    named = "" if cell.config.evaluation_name == DEFAULT_EVALUATION else f"  [{cell.config.evaluation_name}]"
    with time_limited(cell.config):
        record = run_experiment(cell)
    if this_place().size > 1:
        from medqa_finetune.training.group import dismiss

        dismiss()
    print(f"{cell.run.path}{named}  {translated(summarize_record(record), Kind.SAID)}", file=sys.stderr)
    return value_of_trial(record)


def describe_keys() -> str:
    """Return every key with its schema default, one paragraph per section; files of `conf/` override many of them."""
    from medqa_finetune.config.schema import Config

    paragraphs = ["keys (default before a group or the command line sets it; what each means: config/schema.py):"]
    sections = {"": Config, **{field.name: field.type for field in fields(Config) if is_dataclass(field.type)}}
    for section, schema in sections.items():
        words = [
            f"{section}{'.' if section else ''}{field.name}={_default(field)}"
            for field in fields(schema)
            if not is_dataclass(field.type) and field.name not in NOT_TYPED
        ]
        paragraphs.append(
            fill("  ".join(words), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        )
    return "\n".join(paragraphs)


def _default(field: Field[Any]) -> str:
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return "null" if value is None else str(value).replace("'", "").replace(" ", "")


def describe_groups(folders: Sequence[Path]) -> str:
    """Return one line per option of every configuration group, from the first comment of its file."""
    defaults = (conf_folder() / "config.yaml").read_text(encoding="utf-8")
    lines = []
    files = [(path, conf) for conf in folders for path in conf.rglob("*.yaml") if path.parent != conf]
    for name in sorted({path.parent.relative_to(conf).as_posix() for path, conf in files}):
        lines.append(f"\n  {name}=")
        for path in sorted(path for conf in folders for path in (conf / name).glob("*.yaml")):
            mark = "*" if f"- {name}: {path.stem}\n" in defaults else " "
            comments = (
                line[1:].strip()
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
                if line.startswith("#")
            )
            text = next((comment for comment in comments if not comment.startswith("@")), "")
            lines.append(f"   {mark}{path.stem:<32}{text}")
    return "\n".join(lines).lstrip("\n")


if __name__ == "__main__":
    main()
