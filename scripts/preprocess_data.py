"""Turn raw files into cleaned pairs: `pairs.jsonl`, `rejects.jsonl` (each with place and reason) and `counts.json`.

Example: python scripts/preprocess_data.py corpus=csv corpus.path=raw.csv corpus.encoding=gb18030 --to data/cleaned/mine
Training cleans by itself; this is for looking at what cleaning does, or for use elsewhere.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from medqa_finetune.config.checks import corpus_faults
from medqa_finetune.config.command_line import run_door
from medqa_finetune.config.options import load_group, option_names, split_overrides
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.write_jsonl import PAIRS, write_cleaned
from medqa_finetune.errors import EXIT_DONE, ConfigError
from medqa_finetune.log import log_to_terminal


def main(arguments: list[str]) -> int:
    """Write the cleaned pairs of the corpus asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="corpus=NAME",
        help=f"which corpus, and corpus.KEY=VALUE to change it. Names: {', '.join(option_names('corpus'))}",
    )
    parser.add_argument("--to", type=Path, help="folder to write to; data/cleaned/NAME by default")
    options = parser.parse_intermixed_args(arguments)
    log_to_terminal()
    name, overrides = split_overrides(options.overrides, {"corpus": "jsonl"})["corpus"]
    corpus = load_group("corpus", name, CorpusConfig, overrides)
    if faults := list(corpus_faults(corpus)):
        raise ConfigError(*faults)
    folder = options.to or Path("data") / "cleaned" / name
    counts = write_cleaned(corpus, folder, lambda pairs: tqdm(pairs, desc=name, unit=" pairs", disable=None))
    for what, n in counts.items():
        print(f"{n:>10,}  {what}")
    print(f"Next: python -m medqa_finetune.train corpus=jsonl corpus.path={folder / PAIRS}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
