"""Defines a bad input: the files, the command, and the result a user must get."""

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
# An experiment of seconds if it is accepted: 2 training examples, 1 test question, 2 predicted tokens.
BRIEF = (
    "profile=demo", "tracker=none", "threads=1", "data.scale=0.0001", "data.test_size=10000",
    "data.near_duplicate_threshold=1.0", "train.max_steps=1", "evaluate.max_new_tokens=2",
)  # fmt: skip
LORA = (*BRIEF, "method=lora", "data=20k")
# Settings of training have no effect with the untuned base.
NONE = (*(each for each in BRIEF if not each.startswith("train.")), "method=none")


class Start(Protocol):
    """Runs Python with arguments in a folder, with added environment variables."""

    def __call__(self, *arguments: str, cwd: Path, **variables: Any) -> subprocess.CompletedProcess[str]: ...


def nothing(folder: Path) -> None:
    """Leave the folder as it is."""


@dataclass(frozen=True)
class Expected:
    """Required content of one fault of a refusal; the wording is free.

    Attributes:
        code: Fault code.
        key: Setting, option, column or field.
        got: The value found; if not given, the fault must have none.
        names: Numbers, names and values that the problem text must contain.
        allowed: Values that must be among the allowed ones; if empty, the fault must list none.
        hint: Text that the hint must contain: what to type. Empty if no hint is required.
        file: End of the path of the file or folder at fault; if not given, the fault must have none.
        line: Line in that file; if not given, the fault must have none.
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
    """The result of a command.

    Attributes:
        code: Its exit code.
        output: Its standard output.
        complaints: Its standard error.
        faults: Content of the file that `MEDQA_FAULTS_FILE` names.
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
        what: Short description of the input.
        arguments: Command-line arguments, in the folder that `prepare` filled.
        faults: Expected faults, in order, each of a line or two; none if the input is accepted.
        prepare: Writes the files into an empty folder.
        program: One of `PROGRAMS`.
        code: Exit code: 2 if refused, 0 if accepted, 1 if other cells of a matrix continue.
        check: Checks the result of an accepted input.
        says: Text that must be printed for an accepted input.
        meanwhile: Runs concurrently with the command.
        prepared: Whether the corpus itself is valid, and stays prepared in `outputs/cache` for the next start.
        variables: Added to the environment.
        slow: Whether the command trains, generates predictions or must import everything afresh.
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
        """Run the command in a prepared folder; its faults go into a file outside of it."""
        threading.Thread(target=self.meanwhile, args=(folder,), daemon=True).start()
        variables = {**self.variables, FAULTS_VARIABLE: str(faults)}
        done = start(*PROGRAMS[self.program], *self.arguments, cwd=folder, **variables)
        return Outcome(done.returncode, done.stdout, done.stderr, read_faults(faults))


def read_faults(path: Path) -> tuple[Fault, ...]:
    """Read the faults that a command wrote; none if there is no file."""
    if not path.exists():
        return ()
    return tuple(Fault.from_json(fields) for fields in json.loads(path.read_bytes())["faults"])
