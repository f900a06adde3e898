"""Turn raw files into cleaned examples: `pairs.jsonl`, `rejects.jsonl` (each with place and reason) and `counts.json`.

Example: python scripts/preprocess_data.py corpus=csv corpus.path=raw.csv corpus.encoding=gb18030 to=data/cleaned/mine
Training cleans by itself; this is for looking at what cleaning does, or for use elsewhere.
"""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from medqa_finetune.config.checks import corpus_faults
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
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.write_jsonl import write_cleaned
from medqa_finetune.errors import EXIT_DONE, ConfigError
from medqa_finetune.log import log_to_terminal


@dataclass(frozen=True)
class CleanOptions(Options):
    """Command-line options in addition to the corpus."""

    to: str | None = option(None, "folder to write to; data/cleaned/NAME if left out", value="DIR")


USAGE = f"""\
usage: python scripts/preprocess_data.py [corpus=NAME] [key=value …]

Cleans raw files into pairs.jsonl, rejects.jsonl (each with place and reason) and counts.json. Training cleans by
itself; this shows what cleaning does, or prepares files for use elsewhere. A corpus that keeps its published parts
(corpus.parts) gives pairs/train.jsonl, pairs/test.jsonl, … instead.

  python scripts/preprocess_data.py corpus=csv corpus.path=raw.csv corpus.encoding=gb18030 to=data/cleaned/mine

options:
{describe(CleanOptions)}\
{help_line("corpus=NAME", f"one of {', '.join(option_names('corpus'))}")}
  corpus.KEY=VALUE          changes a setting of the corpus
"""


def main(arguments: list[str]) -> int:
    """Write the cleaned examples of the requested corpus."""
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    own, rest = split_options(CleanOptions, from_flags(CleanOptions, arguments))
    options = parse_options(CleanOptions, own)
    log_to_terminal()
    name, overrides = split_overrides(rest, {"corpus": "jsonl"}, option_keys(CleanOptions))["corpus"]
    corpus = load_group("corpus", name, CorpusConfig, overrides)
    if faults := list(corpus_faults(corpus)):
        raise ConfigError(*faults)
    folder = Path(options.to) if options.to else Path("data") / "cleaned" / name
    cleaned = write_cleaned(corpus, folder, lambda examples: tqdm(examples, desc=name, unit=" examples", disable=None))
    for what, n in cleaned.counts.items():
        print(f"{n:>10,}  {what}")
    print(f"Next: python -m medqa_finetune.train corpus=jsonl corpus.path={cleaned.path}")
    return EXIT_DONE


if __name__ == "__main__":
    run_command(main)
