"""Forks processes from one that has imported what commands import; started by `tests/warm.py`, ends with its client.

A request is a connection that carries open files: a JSON file of what to run, standard input, output and error, and
further ones for the process. The answers are its id and, when it has ended, its exit code.
"""

import atexit
import fcntl
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any, NoReturn
from unittest import mock

MOST_FILES = 32
# Above every number that a process asks for one of its files.
SPARE_NUMBERS = 200


def main() -> None:
    """Serve requests until standard input is closed; the argument is the socket's path."""
    import tests.warm_imports  # noqa: F401

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(64)
    ended, ends = os.pipe()
    os.set_blocking(ends, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ends)
    selector = selectors.DefaultSelector()
    for place in (0, listener.fileno(), ended):
        selector.register(place, selectors.EVENT_READ)
    clients: dict[int, socket.socket] = {}
    while True:
        ready = {key.fd for key, _ in selector.select()}
        if 0 in ready:
            return
        if ended in ready:
            os.read(ended, 1 << 12)
            _report_ended(clients)
        if listener.fileno() in ready:
            client, _ = listener.accept()
            _, files, _, _ = socket.recv_fds(client, 16, MOST_FILES)
            if not files:  # somebody who looks whether there is a server
                client.close()
                continue
            if (pid := os.fork()) == 0:
                for each in (listener, client, *clients.values()):
                    each.close()
                selector.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(ended)
                os.close(ends)
                _become(files)
            for file in files:
                os.close(file)
            clients[pid] = client
            client.sendall(f"{pid}\n".encode())


def _report_ended(clients: dict[int, socket.socket]) -> None:
    for pid, client in list(clients.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            with suppress(OSError):  # nobody waits
                client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            clients.pop(pid).close()


def _become(files: list[int]) -> NoReturn:
    request, *given = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, SPARE_NUMBERS) for file in files]
    for file in files:
        os.close(file)
    with os.fdopen(request, encoding="utf-8") as text:
        asked = json.load(text)
    for source, number in zip(given, [0, 1, 2, *asked["numbers"]], strict=True):
        os.dup2(source, number)
        os.close(source)
    if asked["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(asked["variables"])
    os.chdir(asked["folder"])
    code = 0
    try:
        _run(asked)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # What Python does before a process ends; `os._exit` leaves out what belongs to the server.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(asked: dict[str, Any]) -> None:
    from tests import warm

    arguments = asked["arguments"]
    with mock.patch("subprocess.Popen", warm.popen(asked["server"], asked["known"])):
        if arguments[0] == "-m":
            name = arguments[1]
            sys.argv = arguments[1:]
            sys.path.insert(0, asked["folder"])
            # Python warns when a module that is already imported is run.
            sys.modules.pop(name, None)
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, os.path.dirname(arguments[0]))  # noqa: PTH120
            runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
