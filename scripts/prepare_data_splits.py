"""Divide a corpus into nested training sets, a validation and a test set, as JSON Lines files with a manifest.

Example: python scripts/prepare_data_splits.py corpus=huatuo26m_lite sizes=[20k,50k,100k]
Training divides by itself, in the same way, and uses the same cache: cache_only=true fills just that.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from medqa_finetune.config.checks import corpus_faults, data_faults
from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.command_options import (
    Options,
    describe,
    from_flags,
    help_line,
    option,
    option_keys,
    parse_options,
    split_options,
)
from medqa_finetune.config.groups import load_group, option_names, split_overrides
from medqa_finetune.config.schema import CorpusConfig, DataConfig, scaled
from medqa_finetune.data.prepare import prepare, take_splits
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.data.write_jsonl import write_sets
from medqa_finetune.errors import EXIT_DONE, ConfigError
from medqa_finetune.log import log_to_terminal

SIZES = ("20k", "50k", "100k")


@dataclass(frozen=True)
class SplitOptions(Options):
    """Command-line options in addition to corpus and data."""

    sizes: list[str] = option(
        list(SIZES),
        f"training sets to write: {', '.join(option_names('data'))}",
        value="[NAME,…]",
        allowed=option_names("data"),
    )
    to: str | None = option(None, "folder to write to; data/splits/NAME if left out", value="DIR")
    cache: str = option("outputs/cache", "folder of the prepared corpora that training uses", value="DIR")
    cache_only: bool = option(False, "only fill that cache")


USAGE = f"""\
usage: python scripts/prepare_data_splits.py [corpus=NAME] [key=value …]

Divides a corpus into nested training sets, a validation and a test set, as JSON Lines files with a manifest. Training
divides by itself, in the same way, and uses the same cache.

  python scripts/prepare_data_splits.py corpus=huatuo26m_lite sizes=[20k,50k,100k]

options:
{describe(SplitOptions)}\
{help_line("corpus=NAME", f"one of {', '.join(option_names('corpus'))}")}
  corpus.KEY=VALUE          changes a setting of the corpus
  data.KEY=VALUE            changes test_size, validation_size, split_seed, scale or near_duplicate_threshold
"""


def main(arguments: list[str]) -> int:
    """Write, or only cache, the splits of the requested corpus."""
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    own, overrides = split_options(SplitOptions, from_flags(SplitOptions, arguments))
    options = parse_options(SplitOptions, own)
    log_to_terminal()
    defaults = {"corpus": "huatuo26m_lite", "data": SIZES[0]}
    asked = split_overrides(overrides, defaults, option_keys(SplitOptions))
    corpus_name, changes = asked["corpus"]
    corpus = load_group("corpus", corpus_name, CorpusConfig, changes)
    data = {name: load_group("data", name, DataConfig, asked["data"][1]) for name in options.sizes}
    faults = [*corpus_faults(corpus), *(fault for each in data.values() for fault in data_faults(each))]
    if faults:
        raise ConfigError(*faults)
    rules = _rules(next(iter(data.values())))
    sizes = {name: d.train_size and scaled(d.train_size, d.scale) for name, d in data.items()}
    prepared = prepare(
        corpus,
        rules,
        Path(options.cache),
        lambda examples: tqdm(examples, desc=corpus_name, unit=" examples", disable=None),
    )
    for name, n in prepared.notes["counts"].items():
        print(f"{n:>10,}  {name}")
    if options.cache_only:
        for size in sizes.values():
            take_splits(prepared, size)  # refuses what the corpus is too small for
        print(f"Kept in {prepared.folder}")
        return EXIT_DONE
    folder = Path(options.to) if options.to else Path("data") / "splits" / corpus_name
    names = write_sets(
        prepared, sizes, folder, lambda examples, name: tqdm(examples, desc=name, unit=" examples", disable=None)
    )
    print(f"In {folder}: {', '.join(names)}, manifest.json")
    same = shlex.join(overrides or [f"corpus={corpus_name}"])
    print(f"Next: python -m medqa_finetune.train -m {same} data={','.join(sizes)} method=lora,qlora")
    return EXIT_DONE


def _rules(data: DataConfig) -> SplitRules:
    return SplitRules(
        scaled(data.test_size, data.scale),
        scaled(data.validation_size, data.scale),
        data.split_seed,
        data.near_duplicate_threshold,
    )


if __name__ == "__main__":
    run_command(main)
