"""What one bad input is: the files, the command, and what a user must get for it."""

import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medqa_finetune.child_process import FAULTS_VARIABLE
from medqa_finetune.errors import NO_VALUE, Fault
from scripts.command_line import ROOT, python

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


class Start(Protocol):
    """Runs Python with arguments in a folder, variables added to its environment."""

    def __call__(self, *arguments: str, cwd: Path, **variables: Any) -> subprocess.CompletedProcess[str]: ...


def nothing(folder: Path) -> None:
    """Leave the folder as it is."""


@dataclass(frozen=True)
class Expected:
    """What one fault of a refusal must hold; its words are free.

    Attributes:
        code: Its kind.
        key: Setting, option, column or field.
        got: The value found; without one, the fault must show none.
        names: Numbers, names and values that must stand in what is wrong.
        allowed: Values that must be among the allowed ones; without any, the fault must list none.
        hint: What must stand in the hint: what to type. Empty where nothing needs to be said.
        file: How the path of the file or folder at fault ends; without one, the fault must have none.
        line: Line in that file; without one, the fault must have none.
    """

    code: str
    key: str | None = None
    got: Any = NO_VALUE
    names: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    hint: str = ""
    file: str | None = None
    line: int | None = None

    def check(self, found: Fault) -> None:
        """Compare a fault with this."""
        assert (found.code, found.key, found.got, found.line_number) == (self.code, self.key, self.got, self.line)
        for name in self.names:
            assert name in found.problem
        assert set(self.allowed) <= set(found.allowed)
        assert bool(self.allowed) == bool(found.allowed)
        assert self.hint in found.hint
        assert (found.file is None) == (self.file is None)
        assert str(found.file).endswith(str(self.file))


@dataclass(frozen=True)
class Outcome:
    """What a command has done.

    Attributes:
        code: Its exit code.
        output: What it printed on standard output.
        complaints: What it printed on standard error.
        faults: What it left in the file that `MEDQA_FAULTS_FILE` names.
    """

    code: int
    output: str
    complaints: str
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        number: Its number in the list of forty.
        what: The input, in a few words.
        arguments: What is typed after the program's name, in the folder that `prepare` filled.
        faults: What it is refused for, in order, each in a line or two; what is accepted has none.
        prepare: Writes the files into an empty folder.
        program: One of `PROGRAMS`.
        code: Exit code: 2 where it is refused, 0 where it is accepted, 1 where others of a matrix go on.
        check: Looks at what an accepted input led to.
        says: What must be printed of what is accepted.
        meanwhile: Done at the same time as the command, while it runs.
        prepared: Whether the corpus itself is good, and stays prepared in `outputs/cache` for the next start.
        variables: Added to the environment.
        slow: Whether the command trains or answers.
    """

    number: int
    what: str
    arguments: tuple[str, ...]
    faults: tuple[Expected, ...] = ()
    prepare: Callable[[Path], object] = nothing
    program: str = "train"
    code: int = 2
    check: Callable[[Path], None] = nothing
    says: tuple[str, ...] = ()
    meanwhile: Callable[[Path], None] = nothing
    prepared: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False

    def run(self, folder: Path, faults: Path, start: Start = python) -> Outcome:
        """Run the command in a folder that has been prepared; its faults go into a file outside of it."""
        threading.Thread(target=self.meanwhile, args=(folder,), daemon=True).start()
        variables = {**self.variables, FAULTS_VARIABLE: str(faults)}
        done = start(*PROGRAMS[self.program], *self.arguments, cwd=folder, **variables)
        return Outcome(done.returncode, done.stdout, done.stderr, read_faults(faults))


def read_faults(path: Path) -> tuple[Fault, ...]:
    """Return the faults in a file that a command left; none where it left none."""
    if not path.exists():
        return ()
    return tuple(Fault.from_json(fields) for fields in json.loads(path.read_bytes())["faults"])
