"""Fetch a public data set that `conf/corpus/` names, e.g. `python scripts/download_data.py corpus=huatuo26m_lite`."""

import argparse

from medqa_finetune.config.command_line import run_door
from medqa_finetune.config.options import load_group, option_names, split_overrides
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.hub import fetch, hub_folder, is_complete
from medqa_finetune.errors import EXIT_DONE
from medqa_finetune.log import log_to_terminal


def main(arguments: list[str]) -> int:
    """Fetch the data set asked for, unless it is there already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="corpus=NAME",
        help=f"which data set, and corpus.KEY=VALUE to change it. Names: {', '.join(option_names('corpus'))}",
    )
    parser.add_argument("--source", choices=("huggingface", "modelscope"), help="fetch from here instead")
    options = parser.parse_args(arguments)
    log_to_terminal()
    name, overrides = split_overrides(options.overrides, {"corpus": "huatuo26m_lite"})["corpus"]
    if options.source:
        overrides = [*overrides, f"hub={options.source}"]
    corpus = load_group("corpus", name, CorpusConfig, overrides)
    if corpus.source != "hub":
        print(f"corpus={name} needs no download: its source is {corpus.source}.")
        return EXIT_DONE
    folder = hub_folder(corpus)
    if is_complete(corpus, folder):
        print(f"{folder} is complete; nothing to fetch.")
    else:
        fetch(corpus, folder)
        print(f"{folder} is complete.")
    print(f"Next: python scripts/prepare_data_splits.py corpus={name}, or python -m medqa_finetune.train corpus={name}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
