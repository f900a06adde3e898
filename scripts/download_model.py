"""`medqa-download model=…` under its former name: `python scripts/download_model.py model=qwen2.5-3b`."""

from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.download import USAGE, download_model
from medqa_finetune.errors import EXIT_DONE


def main(arguments: list[str]) -> int:
    """Download the requested model, qwen2.5-3b if none is named."""
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    return download_model(arguments)


if __name__ == "__main__":
    run_command(main)
