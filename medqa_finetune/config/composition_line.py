"""The command line of a composition: flags anywhere, groups and keys of an experiment, a command's own options."""

import re
from collections.abc import Sequence
from pathlib import Path

from medqa_finetune.config.command_options import Options, option_words
from medqa_finetune.config.corrections import (
    FORMATS,
    GROUP,
    LIST,
    NUMBER,
    TEXT,
    Repair,
    Words,
    command_of,
    kind_of,
    refuse_mistyped,
)
from medqa_finetune.config.flags import CommandLine, split_flags
from medqa_finetune.config.groups import GROUPS, conf_folders
from medqa_finetune.errors import Fault
from medqa_finetune.log import show_quietly

THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
# Keys whose value is a word or a list, for which the schema has no type.
WORD_OR_LIST = ("method.target_modules", "method.target_parameters", "fp32_blocks")
# Code of the fault of a value that is several.
SEVERAL = "several-values"


def read_composition(arguments: Sequence[str], own: type[Options] | None = None) -> CommandLine:
    """Return the arguments of a command that composes an experiment, flags apart from the rest.

    Args:
        arguments: Arguments typed after the command.
        own: The command's own options; None for none.

    Raises:
        ConfigError: an argument is mistyped or cannot take effect, or flags exclude each other.
    """
    # Loads Hydra, for which `--help` need not wait.
    from medqa_finetune.config.no_effect import refuse_without_effect

    refuse_mistyped(arguments, lambda: composition_words(arguments, own))
    line = split_flags(arguments)
    refuse_without_effect(line)
    if line.only_shows:
        show_quietly()
    return line


def composition_words(arguments: Sequence[str], own: type[Options] | None = None) -> Words:
    """Return what may be typed after a command that composes an experiment."""
    # Loads OmegaConf, for which `--help` need not wait.
    from medqa_finetune.config.explain import hint_of, schema_keys

    kinds = {key: kind_of(hint_of(key)) for key in schema_keys()}
    kinds |= dict.fromkeys(GROUPS, GROUP) | dict.fromkeys(WORD_OR_LIST, LIST)
    folders = conf_folders(arguments)
    choices = {
        group: sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")}) for group in GROUPS
    }
    others = option_words(own) if own is not None else Words({})
    return Words(
        {**kinds, **others.kinds},
        {**choices, **others.choices},
        flags=True,
        path_key=lambda path: others.path_key(path) or _of_path(path),
    )


def _of_path(path: Path) -> list[str]:
    """Return the arguments that a file of pairs, a model's folder or a run's configuration stands for."""
    if path.is_file() and (name := FORMATS.get(path.suffix)):
        return [f"corpus={name}", f"corpus.path={path}"]
    saved = path / "config.yaml" if path.is_dir() else path
    if saved.suffix == ".yaml" and (saved.parent / "record.json").is_file():
        return ["--config-dir", str(saved.parent), "--config-name", saved.stem]
    return ["model=local", f"model.path={path}"] if (path / "config.json").is_file() else []


def with_command(fault: Fault, arguments: Sequence[str]) -> Fault:
    """Return a fault of several values with the command that takes them; any other fault as it is."""
    if fault.code != SEVERAL or fault.key is None:
        return fault
    words = composition_words(arguments)
    if words.kinds.get(fault.key) == NUMBER and THOUSANDS.fullmatch(str(fault.got)):
        return fault.but(hint=f"Did you mean {fault.key}={str(fault.got).replace(',', '')}?")
    corrected = Repair(arguments, words).arguments
    many = " with -m (--multirun)" if "-m" in corrected else ""
    hint = f"Did you mean{many} `{command_of(corrected)}`?"
    if words.kinds.get(fault.key) == TEXT and "(" not in str(fault.got):
        hint += f""" One text with commas has quotes of its own: "{fault.key}='{fault.got}'"."""
    return fault.but(hint=hint)
