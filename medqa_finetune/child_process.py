"""Child processes: call a function of this package in a fresh Python process, and get its result back as data.

A child process frees all its memory and its GPU context when it ends, and side effects of libraries stay in it. `call`
returns a function's result, `stream` yields the items of a generator; faults arrive with their fields. The child stops
when its parent ends, even if that is killed, because its standard input is a pipe that closes then. It writes its
replies as JSON Lines to its original standard output; everything that is printed goes to its standard error.

A refused command writes its faults to a file if its caller asks for that (`faults_file`, `read_faults`).
"""

import contextlib
import importlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

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
from medqa_finetune.runtime import collect_no_more
from medqa_finetune.stopping import stop_with_parent

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Request = TypeVar("Request")
Reply = TypeVar("Reply")

log = logging.getLogger(__name__)

# Environment variable that names the file to which a refused command writes its faults, as JSON, for its caller.
FAULTS_VARIABLE = "MEDQA_FAULTS_FILE"
ERRORS: dict[str, type[MedQAError]] = {kind.__name__: kind for kind in (ConfigError, DataError, ModelError, RunError)}
# Time between SIGTERM and SIGKILL.
STOP_SECONDS = 30.0
# Limits of the output that is kept.
TAIL_LINES = 60
TAIL_BYTES = 1 << 14


class NoReplyError(Exception):
    """A child ended or was silent for too long without a reply; the caller turns it into a fault.

    Attributes:
        problem: A clause whose subject is the process: `ended with exit code 3`, `was killed by SIGKILL`.
        last_line: The last line it printed; empty where that went to our own standard error.
        timed_out: Whether it was silent for too long.
    """

    def __init__(self, problem: str, last_line: str = "", *, timed_out: bool = False) -> None:
        super().__init__(f"the process {problem}")
        self.problem = problem
        self.last_line = last_line
        self.timed_out = timed_out


def call(
    function: Callable[[Request], Reply], request: Request, *, timeout: float | None = None, quiet: bool = False
) -> Reply:
    """Call a function in a fresh process and return its result.

    Args:
        function: A function of an importable module; its annotations define how request and result are written as JSON.
        request: Its one argument.
        timeout: Seconds to wait for the result; None for no limit.
        quiet: Hides what it prints, which otherwise appears on our standard error immediately.

    Raises:
        MedQAError: the function raised it; RunError with the code `unexpected` for an error that is a defect.
        NoReplyError: the process ended without a reply, or took too long.
    """
    result = get_type_hints(function)["return"]
    with _started(function, request, result, quiet=quiet) as child:
        for reply in child.replies(timeout):
            return cast("Reply", reply)
        raise NoReplyError(describe_exit(0), child.last_line())


@contextlib.contextmanager
def stream(
    function: Callable[[Request], Iterator[Reply]],
    request: Request,
    *,
    quiet: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator["Child[Reply]"]:
    """Call a generator function in a fresh process, and yield the child; it is ended when the block is left.

    Args:
        function: As for `call`, but annotated to return an Iterator.
        request: Its one argument.
        quiet: As for `call`.
        environment: Variables added to those of this process.
    """
    (item,) = get_args(get_type_hints(function)["return"])
    with _started(function, request, item, quiet=quiet, environment=environment) as child:
        yield child


class Child(Generic[Reply]):
    """A child process that works on a request."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", adapter: "TypeAdapter[Reply]", messages: IO[bytes] | None
    ) -> None:
        self._process = process
        self._adapter = adapter
        self._messages = messages
        # A thread reads, so that waiting can have a time limit.
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="child-replies", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 (asked for in `_started`)
        with contextlib.suppress(ValueError):  # closed: the caller no longer waits
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(b"")

    def replies(self, timeout: float | None = None) -> Iterator[Reply]:
        """Yield the child's replies, until it ends.

        Args:
            timeout: Seconds to wait for each reply; None for no limit.

        Raises:
            MedQAError: the child's function raised it.
            NoReplyError: the child failed without a fault, or was silent for too long.
        """
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                problem = f"gave no reply within {timeout:g} seconds"
                raise NoReplyError(problem, self.last_line(), timed_out=True) from None
            if not line.endswith(b"\n"):  # the end, or a line cut off by a kill
                break
            said = _read_object(line)
            if "faults" in said:
                raise ERRORS.get(said["error"], RunError)(*map(Fault.from_json, said["faults"]))
            if "reply" in said:
                yield self._adapter.validate_python(said["reply"])
        if (code := self._process.wait()) != 0:
            raise NoReplyError(describe_exit(code), self.last_line())

    def last_line(self) -> str:
        """Return the last line the child printed; empty where it printed on our own standard error."""
        lines = [] if self._messages is None else last_lines(self._messages)
        log.debug("%s", "\n".join(lines))
        return lines[-1].strip() if lines else ""


def _read_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line; an empty one for what Python's start-up files print before `main` begins."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _started(
    function: Callable[[Request], object],
    request: Request,
    reply: Any,  # a type annotation
    *,
    quiet: bool,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Child[Any]]:
    # Imported late: pydantic slows down commands that start no child.
    from pydantic import TypeAdapter

    name = f"{function.__module__}:{function.__qualname__}"
    with contextlib.ExitStack() as files:
        # An unnamed file disappears with the last process that has it open.
        written = files.enter_context(tempfile.TemporaryFile())
        # Written as ASCII, since pydantic's own JSON refuses file names that are not UTF-8.
        values = TypeAdapter(_request_type(function)).dump_python(request, mode="json")
        written.write(json.dumps(values).encode())
        written.flush()
        written.seek(0)
        messages = files.enter_context(tempfile.TemporaryFile()) if quiet else None
        process = files.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", __name__, name, str(written.fileno())],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                pass_fds=[written.fileno()],
            )
        )
        try:
            yield Child(process, TypeAdapter(reply), messages)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _request_type(function: Callable[..., object]) -> Any:
    return next(kind for name, kind in get_type_hints(function).items() if name != "return")


def main() -> NoReturn:
    """Serve a request of `call` or `stream` in this process; arguments: `MODULE:FUNCTION DESCRIPTOR`."""
    stop_with_parent()
    log_to_terminal()
    name, descriptor = sys.argv[1:]
    with os.fdopen(int(descriptor), "rb") as file:
        request = file.read()
    code = 0
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)
        try:
            for reply in _work(name, request):
                _write_line(replies, {"reply": reply})
        except MedQAError as error:
            _write_line(replies, error.as_json())
            code = EXIT_RUN_FAILED
        except KeyboardInterrupt:  # Ctrl-C reaches both processes; the parent reports it
            code = EXIT_INTERRUPTED
        except Exception as error:
            traceback.print_exc()
            defect = Fault("unexpected", f"{type(error).__name__}: {words_of(error)}")
            _write_line(replies, RunError(defect).as_json())
            code = EXIT_RUN_FAILED
    collect_no_more()
    sys.exit(code)


def _work(name: str, request: bytes) -> Iterator[object]:
    """Yield what a function returns, or the items of a generator, as JSON values."""
    from pydantic import TypeAdapter

    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    result = function(TypeAdapter(_request_type(function)).validate_python(json.loads(request)))
    kind = get_type_hints(function)["return"]
    is_stream = get_origin(kind) is Iterator
    adapter: TypeAdapter[Any] = TypeAdapter(get_args(kind)[0] if is_stream else kind)
    for reply in result if is_stream else [result]:
        yield adapter.dump_python(reply, mode="json")


def _write_line(file: IO[bytes], said: Mapping[str, object]) -> None:
    file.write(json.dumps(said).encode() + b"\n")
    file.flush()


def exit_name(code: int) -> str:
    """Return the name of an exit code of `subprocess`: `exit code 3`, `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    names = {each.value: each.name for each in signal.Signals}
    return names.get(-code, f"signal {-code}")


def describe_exit(code: int) -> str:
    """Return how a process ended: `ended with exit code 3`, `was killed by SIGKILL (out of memory?)`."""
    guess = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"ended with {exit_name(code)}" if code >= 0 else f"was killed by {exit_name(code)}{guess}"


def last_lines(file: IO[bytes], begin: int = 0) -> list[str]:
    """Return the last non-empty lines that processes printed into a file from a position on, at most `TAIL_LINES`."""
    handle = file.fileno()
    # `pread` keeps the file position, at which the processes write next.
    tail = os.pread(handle, TAIL_BYTES, max(begin, os.fstat(handle).st_size - TAIL_BYTES))
    lines = tail.decode("utf-8", errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-TAIL_LINES:]


@contextlib.contextmanager
def faults_file() -> Iterator[Path]:
    """Yield a path for a command's faults; pass it to the command as the environment variable `FAULTS_VARIABLE`."""
    with tempfile.TemporaryDirectory(prefix="medqa-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "faults.json"


def leave_faults(fields: str) -> None:
    """Write an error's JSON to the file that `FAULTS_VARIABLE` names, if any; write errors are ignored."""
    if path := os.environ.get(FAULTS_VARIABLE):
        with contextlib.suppress(OSError, ValueError):  # ValueError: a path without a name
            # Renamed into place, so that a reader sees all of it or nothing.
            fresh = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
            fresh.write_text(f"{fields}\n", encoding="utf-8")
            fresh.replace(path)


def read_faults(path: Path) -> list[Fault]:
    """Return the faults that a command left; empty where it left none."""
    try:
        return [Fault.from_json(fields) for fields in json.loads(path.read_bytes())["faults"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


if __name__ == "__main__":
    main()
