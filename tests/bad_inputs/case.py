"""What one bad input is: the files, the command, and what a user must get for it."""

import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.commands import ROOT, python

PROGRAMS = {
    "train": ("-m", "medqa_finetune.train"),
    "evaluate": ("-m", "medqa_finetune.evaluate"),
    "chat": ("-m", "medqa_finetune.chat"),
    "summarize": ("-m", "medqa_finetune.summarize"),
    "export": ("-m", "medqa_finetune.export"),
    "preprocess": (str(ROOT / "scripts" / "preprocess_data.py"),),
    "split": (str(ROOT / "scripts" / "prepare_data_splits.py"),),
}
# An experiment of seconds, should it be let through: 2 training pairs, 1 test question, 2 tokens of answer.
BRIEF = (
    "profile=demo", "tracker=none", "threads=1", "data.scale=0.0001", "data.near_duplicate_threshold=1.0",
    "train.max_steps=1", "evaluate.max_new_tokens=2",
)  # fmt: skip
LORA = (*BRIEF, "method=lora", "data=20k")


def nothing(folder: Path) -> None:
    """Leave the folder as it is."""


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        number: Its number in the list of forty.
        what: The input, in a few words.
        arguments: What is typed after the program's name, in the folder that `prepare` filled.
        says: Texts that must stand in what the command prints: for a refusal file, line, key, value, what is allowed
            or what to do; for what is accepted, what is reported of it.
        prepare: Writes the files into an empty folder.
        program: One of `PROGRAMS`.
        code: Exit code: 2 where it is refused, 0 where it is accepted, 1 where others of a matrix go on.
        check: Looks at what an accepted input led to.
        meanwhile: Done beside the command, while it runs.
        faults: How many faults are reported, each in a line or two.
        prepared: Whether the corpus itself is good, and stays prepared in `outputs/cache` for the next start.
        variables: Added to the environment.
        slow: Whether the command trains or answers.
    """

    number: int
    what: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    prepare: Callable[[Path], object] = nothing
    program: str = "train"
    code: int = 2
    check: Callable[[Path], None] = nothing
    meanwhile: Callable[[Path], None] = nothing
    faults: int = 1
    prepared: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False

    def run(self, folder: Path) -> "subprocess.CompletedProcess[str]":
        """Run the command in a folder that has been prepared."""
        threading.Thread(target=self.meanwhile, args=(folder,), daemon=True).start()
        return python(*PROGRAMS[self.program], *self.arguments, cwd=folder, timeout=300, **self.variables)
