"""`medqa-convert` under its former name: `python scripts/convert_checkpoint.py source=models/old target=models/new`."""

from medqa_finetune.config.command_line import run_command
from medqa_finetune.convert import convert


def main(arguments: list[str]) -> int:
    """Convert the requested model."""
    return convert(arguments)


if __name__ == "__main__":
    run_command(main)
