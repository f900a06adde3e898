"""Divide a corpus into nested training sets, a validation and a test set, as JSON Lines files with a manifest.

Example: python scripts/prepare_data_splits.py corpus=huatuo26m_lite --sizes 20k 50k 100k
Training divides by itself, in the same way, and uses the same cache: --cache-only fills just that.
"""

import argparse
import shlex
from pathlib import Path

from tqdm import tqdm

from medqa_finetune.config.checks import corpus_faults, data_faults
from medqa_finetune.config.command_line import run_door
from medqa_finetune.config.options import load_group, option_names, split_overrides
from medqa_finetune.config.schema import CorpusConfig, DataConfig, scaled
from medqa_finetune.data.prepare import prepare, take_splits
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.data.write_jsonl import write_sets
from medqa_finetune.errors import EXIT_DONE, ConfigError
from medqa_finetune.log import log_to_terminal

SIZES = ("20k", "50k", "100k")


def main(arguments: list[str]) -> int:
    """Write, or only cache, the sets of the corpus asked for."""
    options = _parser().parse_intermixed_args(arguments)
    log_to_terminal()
    asked = split_overrides(options.overrides, {"corpus": "huatuo26m_lite", "data": SIZES[0]})
    corpus_name, changes = asked["corpus"]
    corpus = load_group("corpus", corpus_name, CorpusConfig, changes)
    data = {name: load_group("data", name, DataConfig, asked["data"][1]) for name in options.sizes}
    faults = [*corpus_faults(corpus), *(fault for each in data.values() for fault in data_faults(each))]
    if faults:
        raise ConfigError(*faults)
    rules = _rules(next(iter(data.values())))
    sizes = {name: d.train_size and scaled(d.train_size, d.scale) for name, d in data.items()}
    prepared = prepare(
        corpus, rules, options.cache, lambda pairs: tqdm(pairs, desc=corpus_name, unit=" pairs", disable=None)
    )
    for name, n in prepared.notes["counts"].items():
        print(f"{n:>10,}  {name}")
    if options.cache_only:
        for size in sizes.values():
            take_splits(prepared, size)  # refuses what the corpus is too small for
        print(f"Kept in {prepared.folder}")
        return EXIT_DONE
    folder = options.to or Path("data") / "splits" / corpus_name
    names = write_sets(prepared, sizes, folder, lambda pairs, name: tqdm(pairs, desc=name, unit=" pairs", disable=None))
    print(f"In {folder}: {', '.join(names)}, manifest.json")
    same = shlex.join(options.overrides or [f"corpus={corpus_name}"])
    print(f"Next: python -m medqa_finetune.train -m {same} data={','.join(sizes)} method=lora,qlora")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="corpus=NAME, corpus.KEY=VALUE, data.KEY=VALUE (test_size, validation_size, split_seed, scale, …). "
        f"Corpora: {', '.join(option_names('corpus'))}",
    )
    parser.add_argument(
        "--sizes", nargs="+", default=SIZES, choices=option_names("data"), help="training sets to write"
    )
    parser.add_argument("--to", type=Path, help="folder to write to; data/splits/NAME by default")
    parser.add_argument("--cache", type=Path, default=Path("outputs") / "cache", help="prepared corpora; %(default)s")
    parser.add_argument("--cache-only", action="store_true", help="only fill the cache that training uses")
    return parser


def _rules(data: DataConfig) -> SplitRules:
    return SplitRules(
        scaled(data.test_size, data.scale),
        scaled(data.validation_size, data.scale),
        data.split_seed,
        data.near_duplicate_threshold,
    )


if __name__ == "__main__":
    run_door(main)
