"""Runs commands in forks of a process that has already imported what they import, which saves seconds per command.

A fork runs the command's file as `python -m` does, with its own arguments, folder, environment and files; so do the
processes that a command starts with this package: cells, checks of a model, measurements. Tests of start-up itself
(order of imports, variables that libraries read on import) use `python` of `scripts/command_line.py`.
"""

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, Self
from unittest import mock

from scripts.command_line import ROOT, environment

# Prefixes of variables that no library reads on import.
READ_LATE: tuple[str, ...] = (
    "MEDQA_", "PYTEST_", "HYDRA_", "HF_HOME", "PWD", "OLDPWD", "TMPDIR", "PYTHONFAULTHANDLER", "TENSORBOARD_LOGGING_",
    "TORCHINDUCTOR_CACHE_DIR",  # torch sets it on import, to what it is anyway
)  # fmt: skip
if not Path("/proc/driver/nvidia").exists():
    READ_LATE += ("CUDA_VISIBLE_DEVICES",)
# Imports take seconds, on a busy machine many.
START_SECONDS = 120.0
_shared: list[str] = []
_python, _fresh = sys.executable, subprocess.Popen


def can_run(arguments: Sequence[str], variables: Mapping[str, str], known: Mapping[str, str] | None = None) -> bool:
    """Return whether a fork is equivalent to a fresh process for these arguments of Python and these variables.

    Args:
        arguments: What follows `python`.
        variables: The whole environment of the process.
        known: The environment in which libraries were imported.
    """
    is_command = arguments[:1] == ["-m"] and arguments[1].startswith("medqa_finetune.")
    if sys.platform != "linux" or not (is_command or arguments[0].endswith(".py")):
        return False
    known = _server()[1] if known is None else known
    differing = {name for name in {*known, *variables} if known.get(name) != variables.get(name)}
    return all(name.startswith(READ_LATE) for name in differing)


def run(
    arguments: Sequence[str], *, cwd: Path, timeout: float, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `-m MODULE …` or `FILE …` in a fork, as `subprocess.run` does in a fresh process.

    Raises:
        subprocess.TimeoutExpired: the command ran longer than `timeout` seconds.
    """
    server, known = _server()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = Forked(
            arguments, server, known, folder=cwd, variables=variables, stdin=subprocess.DEVNULL, stdout=output,
            stderr=errors,
        )  # fmt: skip
        with process:
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode("utf-8"))
        return subprocess.CompletedProcess([_python, *arguments], process.wait(), *texts)


def start(arguments: Sequence[str], *, cwd: Path, variables: Mapping[str, str]) -> "Forked":
    """Start `-m MODULE …` or `FILE …` in a fork and return at once; what it says on standard error is a pipe."""
    server, known = _server()
    assert can_run(arguments, variables, known)
    return Forked(
        arguments, server, known, folder=cwd, variables=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


@contextlib.contextmanager
def children() -> Iterator[None]:
    """Fork processes of this package that are started within the block, in this process."""
    with mock.patch("subprocess.Popen", popen(_server()[0], dict(os.environ))):
        yield


def popen(server: str, known: Mapping[str, str]) -> Callable[..., Any]:
    """Return what stands in for `subprocess.Popen`: a fork where that is equivalent, a fresh process elsewhere."""

    def start(command: Any, **options: Any) -> Any:
        arguments = [] if isinstance(command, str | bytes | os.PathLike) else [os.fspath(each) for each in command]
        variables = options.get("env") or dict(os.environ)
        if not (_is_ours(arguments) and can_run(arguments[1:], variables, known)):
            return _fresh(command, **options)
        return Forked(
            arguments[1:], server, known, folder=Path(options.get("cwd") or "."), variables=variables,
            session=options.get("start_new_session", False), pass_fds=options.get("pass_fds", ()),
            **{name: options.get(name) for name in ("stdin", "stdout", "stderr")},
        )  # fmt: skip

    return start


def _is_ours(command: Sequence[str]) -> bool:
    """Return whether a command line is a module of the package, or a program of the tests, run by this Python."""
    if command[:2] == [_python, "-m"]:
        return command[2].startswith("medqa_finetune.")
    return command[:1] == [_python] and command[1].startswith(f"{ROOT}/tests/") and command[1].endswith(".py")


class Forked:
    """A process that the server has forked, used as a `subprocess.Popen` is."""

    def __init__(
        self,
        arguments: Sequence[str],
        server: str,
        known: Mapping[str, str],
        *,
        folder: Path,
        variables: Mapping[str, str],
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        session: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.args = [_python, *arguments]
        self.returncode: int | None = None
        asked = {
            "arguments": list(arguments), "folder": str(folder.absolute()), "variables": dict(variables),
            "session": session, "numbers": list(pass_fds), "server": server, "known": dict(known),
        }  # fmt: skip
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with contextlib.ExitStack() as ours, tempfile.TemporaryFile("w+", encoding="utf-8") as request:
            json.dump(asked, request)
            request.seek(0)
            self.stdin, given = _end(stdin, 0, ours)
            self.stdout, written = _end(stdout, 1, ours)
            self.stderr, said = (None, written) if stderr == subprocess.STDOUT else _end(stderr, 2, ours)
            self._server = socket.socket(socket.AF_UNIX)
            self._server.connect(server)
            socket.send_fds(self._server, [b"run"], [request.fileno(), given, written, said, *pass_fds])
            self.pid = int(self._line())

    def _line(self) -> str:
        text = b""
        while not text.endswith(b"\n"):
            if not (part := self._server.recv(1)):
                raise RuntimeError("the server of forks has ended")
            text += part
        return text.decode()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None and select.select([self._server], [], [], 0)[0]:
            self.returncode = int(self._line())
            self._server.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it runs longer.
        """
        if self.returncode is None and not select.select([self._server], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what it wrote to its standard output and error where they are pipes, 64 KiB at most.

        Raises:
            subprocess.TimeoutExpired: it runs longer.
        """
        self.wait(timeout)
        output, errors = ("" if pipe is None else pipe.read().decode() for pipe in (self.stdout, self.stderr))
        return output, errors

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                stream.close()
        self.wait()


def _end(wanted: Any, number: int, ours: contextlib.ExitStack) -> tuple[IO[bytes] | None, int]:
    """Return our end of a standard stream, if there is one, and the number of the process's end."""
    if wanted is None:
        return None, number
    if wanted == subprocess.DEVNULL:
        return None, ours.enter_context(open(os.devnull, "r+b", buffering=0)).fileno()  # noqa: PTH123
    if wanted != subprocess.PIPE:
        return None, wanted if isinstance(wanted, int) else wanted.fileno()
    reading, writing = os.pipe()
    theirs, mine = (reading, writing) if number == 0 else (writing, reading)
    ours.callback(os.close, theirs)
    return os.fdopen(mine, "wb" if number == 0 else "rb"), theirs


def start_server(**variables: str) -> str:
    """Start a server of forks that ends with this process, with more variables; return its socket."""
    folder = tempfile.mkdtemp(prefix="warm-")
    path = f"{folder}/socket"
    process = _fresh(
        [_python, "-m", "tests.warm_server", path],
        cwd=ROOT,
        env=environment(Path("/nonexistent")) | variables,
        stdin=subprocess.PIPE,
    )

    def end() -> None:
        with process:
            assert process.stdin is not None
            process.stdin.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return path


def use_server(path: str) -> None:
    """Let this process use a server that another one has started."""
    _shared.append(path)


def shared_server() -> str:
    """Return the socket of the server of forks, for a process that is to `use_server` it."""
    return _server()[0]


@cache
def _server() -> tuple[str, dict[str, str]]:
    """Return the socket of the server of forks, and the environment that commands have without variables of a test."""
    path = _shared[0] if _shared else start_server()
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as trial:
                trial.connect(path)
            return path, environment(Path("/nonexistent"))
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
