"""Show what a model is trained on: one dialogue as text and token ids, coloured by whether the loss counts them.

Example: python scripts/show_example.py corpus=jsonl corpus.path=mine.jsonl model=qwen3-0.6b show.number=3
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, option, parse_options, split_options
from medqa_finetune.config.ranges import at_least
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault
from medqa_finetune.log import log_to_terminal
from medqa_finetune.plan import compose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from medqa_finetune.data.examples import Encoded

SETS = ("train", "validation", "test")
NO_LOSS, LOSS = "no loss", "loss"
# The whole corpus for training, but for what must be held out.
SMALL_SETS = ("data=all", "data.test_size=1", "data.validation_size=1")
STYLES = {NO_LOSS: "dim", LOSS: "bold green"}


@dataclass(frozen=True)
class ShowOptions(Options):
    """Options in addition to the settings of the experiment."""

    PREFIX = "show."

    number: int = option(1, "which example of the set, from 1", check=lambda key, value: at_least(key, value, 1))
    part: str = option("train", "which set", allowed=SETS)
    ids: bool = option(True, "print the token ids below each stretch of text")


USAGE = f"""\
usage: python scripts/show_example.py [key=value …] [group=choice …]

Prints one dialogue as the model is trained on it, in stretches of text with and without loss, each with its token ids.
The model's tokenizer is enough; its weights are not needed. Without data= or a profile, all of the corpus is the
training set but for one question each for validation and test.

  python scripts/show_example.py profile=demo
  python scripts/show_example.py corpus=jsonl corpus.path=mine.jsonl model=qwen3-0.6b model.thinking=keep show.number=3

options:
{describe(ShowOptions)}\
and every group and key that `python -m medqa_finetune.train --help` lists
"""


def main(arguments: list[str]) -> int:
    """Print the requested example of the experiment's set."""
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    own, rest = split_options(ShowOptions, arguments)
    options = parse_options(ShowOptions, own)
    config = compose([*SMALL_SETS, *rest] if asks_no_sizes(rest) else rest).configs[0]
    log_to_terminal()
    # Imported late, so that --help and refusals are fast.
    from medqa_finetune.data.prepare import CACHE_NAME
    from medqa_finetune.model.load import load_tokenizer
    from medqa_finetune.model.locate import locate_architecture
    from medqa_finetune.objectives import task_of

    task, folder = task_of(config), locate_architecture(config.model)
    splits = task.prepare(config, folder, Path(config.outputs) / CACHE_NAME)
    items = getattr(splits, options.part)
    if options.number > len(items):
        raise ConfigError(
            Fault("out-of-range", f"the set has {len(items):,} examples", key="show.number", got=options.number)
        )
    tokenizer = load_tokenizer(folder, config.model.chat_template, chat=config.chats)
    encoder = task.encoder(tokenizer, config, splits.manifest.counts)
    place = options.number - 1
    (encoded,) = encoder.encode(items[place : place + 1])
    (name,) = task.ids(items[place : place + 1])
    console = Console(highlight=False, soft_wrap=True)
    trained = encoded.answer_tokens
    console.print(f"{name}: {len(encoded.input_ids)} tokens, {trained} with loss", markup=False)
    for kind, ids in stretches(encoded):
        console.print(Text(f"── {kind}, {len(ids)} tokens", style="cyan"))
        console.print(Text(text_of(tokenizer, ids), style=STYLES[kind]))
        if options.ids:
            console.print(Text(" ".join(map(str, ids)), style="dim"))
    counts = encoded.counts
    notes = {
        "cut to train.max_length": counts.cut,
        "earlier answers without loss": counts.untrained,
        "control tokens made plain text": counts.marks,
        "thoughts left out": counts.thoughts,
    }
    for note, number in notes.items():
        if number:
            console.print(f"{note}: {number}", markup=False)
    return EXIT_DONE


def asks_no_sizes(arguments: list[str]) -> bool:
    """Whether no argument chooses sizes of sets, so that a corpus of any size can be looked at."""
    return not any(argument.lstrip("+").startswith(("data=", "data.", "profile=")) for argument in arguments)


def stretches(encoded: "Encoded") -> Iterator[tuple[str, list[int]]]:
    """Yield the stretches of an example with and without loss, and their token ids."""
    from medqa_finetune.data.examples import IGNORED

    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    for has_loss, group in groupby(pairs, key=lambda pair: pair[1] != IGNORED):
        yield LOSS if has_loss else NO_LOSS, [token for token, _ in group]


def text_of(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    """Return the text of token ids, special tokens included."""
    return str(tokenizer.decode(ids))


if __name__ == "__main__":
    run_command(main)
