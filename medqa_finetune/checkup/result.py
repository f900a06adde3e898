"""The result of a check, and how a check that fails itself becomes one."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from medqa_finetune.compat.failures import words_of
from medqa_finetune.errors import Fault, MedQAError


class State(StrEnum):
    """What a check found; `PROBLEM` is what stops a run."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: Of what was looked at; programs rely on it.
        state: What was found.
        line: What was found, in the chosen language; empty where the faults say it.
        facts: What was found as JSON values; programs rely on the names.
        faults: What is wrong, each with its remedy.
    """

    name: str
    state: State
    line: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    faults: Sequence[Fault] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, in English."""
        faults = [fault.as_json() for fault in self.faults]
        return {"name": self.name, "state": self.state.value, "facts": dict(self.facts), "faults": faults}


def judged(name: str, line: str, facts: Mapping[str, Any], faults: Sequence[Fault], worst: State) -> Check:
    """Return a check that is fine, unless it has faults: then its state is `worst`."""
    return Check(name, worst if faults else State.OK, line, facts, faults)


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """Return what a check finds; a problem where it fails itself, as it does where a package is broken."""
    try:
        return check()
    except MedQAError as error:
        return Check(name, State.PROBLEM, faults=error.faults)
    except Exception as error:  # a broken package may raise anything
        return Check(name, State.PROBLEM, faults=[broken(error)])


def broken(error: Exception) -> Fault:
    """Return the fault of an error that should not be: a package that is missing or does not fit."""
    problem = f"cannot be checked ({type(error).__name__}: {words_of(error)})"
    if isinstance(error, ImportError):
        return Fault("import-failed", problem, key=error.name, hint=INSTALL_AGAIN)
    return Fault("not-checked", problem, hint=INSTALL_AGAIN)


INSTALL_AGAIN = "Install the package again, with the tested versions of all that it needs."
