"""Lists the commands: `python -m medqa_finetune`."""

from medqa_finetune.config.command_line import aligned_table, run_command, wants_help
from medqa_finetune.config.corrections import command_of
from medqa_finetune.config.schema_faults import unknown_value
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault
from medqa_finetune.languages.translate import Kind, say, translated

# What each command does, by module.
COMMANDS = {
    "train": "train and evaluate one experiment, or with -m a matrix of them",
    "plan": "time, memory, disk and money of the same, before anything runs",
    "summarize": "tables, charts and a page over all runs",
    "evaluate": "evaluate a run again, or score a file of predictions",
    "chat": "talk to models that runs have trained",
    "export": "make and measure merged, quantized and other variants of a run",
    "download": "fetch a model or a public corpus, from Hugging Face or ModelScope",
    "convert": "turn pickled weights into safetensors",
    "doctor": "say whether a run can start here, and what each profile needs",
}
TO_BEGIN = "Each has --help. To begin: python -m medqa_finetune.train -m profile=demo"
SCRIPTS = {"summarize": "summarize"}


def main() -> None:
    """List the commands, and end the process."""
    run_command(list_commands)


def list_commands(arguments: list[str]) -> int:
    """Print every command and what it does; refuse arguments with the command that was probably meant.

    Raises:
        ConfigError: there are arguments.
    """
    if arguments and not wants_help(arguments):
        raise ConfigError(_no_arguments(arguments))
    rows = [
        [f"python -m medqa_finetune.{name}", script_of(name), translated(text, Kind.HELP)]
        for name, text in COMMANDS.items()
    ]
    header = [say("command"), say("or"), ""]
    print(aligned_table(header, rows, left=header))
    print(f"\n{translated(TO_BEGIN, Kind.HELP)}")
    return EXIT_DONE


def script_of(command: str) -> str:
    """Return the name of a command's script, as `pyproject.toml` installs it."""
    return SCRIPTS.get(command, f"medqa-{command}")


def _no_arguments(arguments: list[str]) -> Fault:
    first, *rest = arguments
    name = first.removeprefix("medqa-")
    if name in COMMANDS:
        return Fault("mistyped", "a command is a module", got=first, hint=f"Did you mean `{command_of(rest, name)}`?")
    return unknown_value("command", first, tuple(COMMANDS))


if __name__ == "__main__":
    main()
