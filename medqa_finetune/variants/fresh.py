"""Work that loads torch, in a process that ends afterwards: memory is measured by process, and given back whole."""

import json
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter

from medqa_finetune.compat.failures import words_of
from medqa_finetune.errors import (
    EXIT_INTERRUPTED,
    EXIT_RUN_FAILED,
    ConfigError,
    DataError,
    Fault,
    MedQAError,
    ModelError,
    RunError,
)
from medqa_finetune.log import log_to_terminal
from medqa_finetune.stopping import stop_with_parent

T = TypeVar("T")

ERRORS: dict[str, type[MedQAError]] = {kind.__name__: kind for kind in (ConfigError, DataError, ModelError, RunError)}


def in_fresh_process(module: str, asked: Any, answer: type[T]) -> T:
    """Let a module of this folder do what is asked in a process of its own, and return what it found.

    What it says on standard error is seen as it comes. It ends when this process does, however that ends.

    Raises:
        MedQAError: the module raised it; RunError, where it came to no answer.
    """
    text = TypeAdapter(type(asked)).dump_json(asked).decode("utf-8")
    command = [sys.executable, "-m", f"{__package__}.{module}", text]
    # Standard input stays open until it has ended: its closing tells that nobody waits any more.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None  # noqa: S101 (asked for, above)
            printed = process.stdout.read()
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    said = _last_object(printed)
    if said is None:
        folder = getattr(asked, "folder", None)
        file, hint = None if folder is None else str(folder), "Its own messages are above."
        raise RunError(Fault("process-ended", f"the process {_ending(code)}", file=file, hint=hint))
    if "faults" in said:
        raise ERRORS.get(said["error"], RunError)(*map(Fault.from_json, said["faults"]))
    return TypeAdapter(answer).validate_python(said["answer"])


def answer_parent(work: Callable[[Any], Any], asked: type[Any]) -> NoReturn:
    """Do in this process what `in_fresh_process` asks, print the answer for it, and end."""
    stop_with_parent()
    log_to_terminal()
    try:
        found = work(TypeAdapter(asked).validate_json(sys.argv[1]))
        said = {"answer": TypeAdapter(type(found)).dump_python(found, mode="json")}
    except MedQAError as error:
        said = error.as_json()
    except KeyboardInterrupt:  # the terminal tells both; the other process says so
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        traceback.print_exc()
        said = RunError(Fault("unexpected", f"{type(error).__name__}: {words_of(error)}")).as_json()
    print(json.dumps(said), flush=True)
    sys.exit(EXIT_RUN_FAILED if "faults" in said else 0)


def _last_object(printed: bytes) -> dict[str, Any] | None:
    """Return the object in the last line printed: libraries may print before it."""
    try:
        found = json.loads(printed.splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    names = {each.value: each.name for each in signal.Signals}
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"was killed by {names.get(-code, f'signal {-code}')}{hint}"
