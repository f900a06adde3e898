"""Actions of faults in the struck process. Standard library only, as in `inject`."""

import contextlib
import ctypes
import errno
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

from scripts.trials.inject import Strike, plan_from_variable, watch

MIB = 1 << 20
# Bit mask of the Linux capabilities that let root ignore file permissions: numbers 1 to 3.
IGNORE_PERMISSIONS = 0b1110
HELD_SECONDS = 120
CAPABILITY_VERSION = 0x20080522


def act(strike: Strike) -> None:
    ACTIONS[strike.action](strike.argument)


def strike_here(command: list[str]) -> None:
    """Apply the faults planned for this process in its environment."""
    plan = plan_from_variable(command)
    if plan is not None:
        watch(*plan, act)


def send(names: str) -> None:
    for name in names.split():
        os.kill(os.getpid(), signal.Signals[name])


def send_to_parent(names: str) -> None:
    """Send signals to the parent process, and wait for their effect."""
    parent = os.getppid()
    for name in names.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(parent, signal.Signals[name])
        time.sleep(0.3)


def crash(argument: str) -> None:
    """Read at address 0, as broken native code does."""
    ctypes.string_at(0)


def leave(code: str) -> None:
    """Exit by `sys.exit`."""
    sys.exit(int(code))


def leave_at_once(code: str) -> None:
    """Exit by `os._exit`, without clean-up."""
    os._exit(int(code))


def run_out_of_memory(argument: str) -> None:
    """Raise Python's out-of-memory error."""
    raise MemoryError


def run_out_of_gpu_memory(argument: str) -> None:
    """Raise torch's out-of-memory error of a GPU."""
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB, 0 bytes free.")


def fail(name: str) -> None:
    """Raise OSError in place of the operation: `ENOSPC`, `EDQUOT`, `EIO`."""
    number = getattr(errno, name)
    raise OSError(number, os.strerror(number))


def tear(size: str) -> None:
    """Kill this process within the first write that makes a file larger than `size` bytes.

    The kernel writes up to the limit, so that the file is torn there.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    limit_files(size)


def limit_files(size: str) -> None:
    """Make every write that would grow a file beyond `size` bytes fail (`EFBIG`), in native code too."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def fill_disk(argument: str) -> None:
    """Fill the file system of a folder until `N` bytes are left: `N FOLDER`."""
    left, folder = argument.split(" ", 1)
    ballast = Path(folder) / ".ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(MIB))
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    os.truncate(ballast, max(0, ballast.stat().st_size - int(left)))


def forbid_writing(folder: str) -> None:
    """Make a folder and everything below it read-only; the process loses root's privilege."""
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o555)
    obey_permissions()


def obey_permissions() -> None:
    """Make the kernel check root's file permissions like any user's."""
    if os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    data = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.capget(header, data)
    for index in range(2):  # effective and permitted
        data[index] &= ~IGNORE_PERMISSIONS
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def delete(place: str) -> None:
    if Path(place).is_file():
        Path(place).unlink()
    shutil.rmtree(place, ignore_errors=True)


def shift_clock(seconds: str) -> None:
    """Shift the clock of this process."""
    real, ahead = time.time, float(seconds)
    time.time = lambda: real() + ahead
    time.time_ns = lambda: int(time.time() * 1e9)
    records = sys.modules["medqa_finetune.record.run_dir"]

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Shifted":
            return cls.fromtimestamp(time.time(), tz)

    records.datetime = Shifted  # type: ignore[attr-defined]


def change_zone(name: str) -> None:
    """Set the time zone of this process."""
    os.environ["TZ"] = name
    time.tzset()


def age(argument: str) -> None:
    """Set the modification time of everything below a folder: `SECONDS FOLDER`, relative to now."""
    seconds, folder = argument.split(" ", 1)
    moment = time.time() + float(seconds)
    for path in (Path(folder), *Path(folder).rglob("*")):
        with contextlib.suppress(OSError):
            os.utime(path, (moment, moment))


def wait(seconds: str) -> None:
    time.sleep(float(seconds))


def hold(place: str) -> None:
    """Wait until a file exists."""
    until = time.monotonic() + HELD_SECONDS
    while not Path(place).exists() and time.monotonic() < until:
        time.sleep(0.02)


ACTIONS: dict[str, Callable[[str], None]] = {
    "signal": send,
    "signal parent": send_to_parent,
    "segfault": crash,
    "sys.exit": leave,
    "os._exit": leave_at_once,
    "MemoryError": run_out_of_memory,
    "OutOfMemoryError": run_out_of_gpu_memory,
    "OSError": fail,
    "tear": tear,
    "limit": limit_files,
    "fill": fill_disk,
    "forbid": forbid_writing,
    "delete": delete,
    "clock": shift_clock,
    "zone": change_zone,
    "age": age,
    "obey": lambda _: obey_permissions(),
    "wait": wait,
    "hold": hold,
}
