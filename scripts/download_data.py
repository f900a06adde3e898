"""Fetch a public data set that `conf/corpus/` names, e.g. `python scripts/download_data.py corpus=huatuo26m_lite`."""

from dataclasses import dataclass

from medqa_finetune.config.checks import HUBS
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
from medqa_finetune.data.hub import fetch, hub_folder, is_complete
from medqa_finetune.errors import EXIT_DONE
from medqa_finetune.log import log_to_terminal


@dataclass(frozen=True)
class DownloadOptions(Options):
    """Command-line options in addition to the corpus."""

    source: str | None = option(None, "fetch from this hub, not from the configured one", allowed=HUBS)


USAGE = f"""\
usage: python scripts/download_data.py [corpus=NAME] [key=value …]

Fetches a public data set that conf/corpus names, unless it is there already.

  python scripts/download_data.py corpus=huatuo26m_lite
  python scripts/download_data.py corpus=huatuo26m_lite source=modelscope

options:
{describe(DownloadOptions)}\
{help_line("corpus=NAME", f"one of {', '.join(option_names('corpus'))}")}
  corpus.KEY=VALUE          changes a setting of the corpus
"""


def main(arguments: list[str]) -> int:
    """Download the requested data set, unless present."""
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    own, rest = split_options(DownloadOptions, from_flags(DownloadOptions, arguments))
    options = parse_options(DownloadOptions, own)
    log_to_terminal()
    name, overrides = split_overrides(rest, {"corpus": "huatuo26m_lite"}, option_keys(DownloadOptions))["corpus"]
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
    run_command(main)
