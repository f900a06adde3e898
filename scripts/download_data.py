"""`medqa-download corpus=…` under its former name: `python scripts/download_data.py corpus=huatuo26m_lite`."""

from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.download import USAGE, download_corpus
from medqa_finetune.errors import EXIT_DONE


def main(arguments: list[str]) -> int:
    """Download the requested data set, huatuo26m_lite if none is named."""
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    return download_corpus(arguments)


if __name__ == "__main__":
    run_command(main)
