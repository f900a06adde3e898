"""What a fault does to the process it strikes. Standard library alone, as in `inject`."""

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
# Linux capabilities by which root may ignore the permissions of files: numbers 1 to 3.
IGNORE_PERMISSIONS = 0b1110
HELD_SECONDS = 120
CAPABILITY_VERSION = 0x20080522


def act(strike: Strike) -> None:
    """Do what a strike names."""
    ACTIONS[strike.action](strike.argument)


def strike_here(command: list[str]) -> None:
    """Let happen in this process what the environment plans for it."""
    plan = plan_from_variable(command)
    if plan is not None:
        watch(*plan, act)


def send(names: str) -> None:
    """Send signals to this process."""
    for name in names.split():
        os.kill(os.getpid(), signal.Signals[name])


def send_to_parent(names: str) -> None:
    """Send signals to the process that started this one, and give them time to have their effect."""
    parent = os.getppid()
    for name in names.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(parent, signal.Signals[name])
        time.sleep(0.3)


def crash(argument: str) -> None:
    """Read at address 0, as broken native code does."""
    ctypes.string_at(0)


def leave(code: str) -> None:
    """Leave by `sys.exit`."""
    sys.exit(int(code))


def leave_at_once(code: str) -> None:
    """Leave without a word to anybody."""
    os._exit(int(code))


def run_out_of_memory(argument: str) -> None:
    """Raise what Python raises when the machine has no memory left."""
    raise MemoryError


def run_out_of_gpu_memory(argument: str) -> None:
    """Raise what torch raises when the GPU has no memory left."""
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB, 0 bytes free.")


def fail(name: str) -> None:
    """Raise an error of the operating system in place of the operation: `ENOSPC`, `EDQUOT`, `EIO`."""
    number = getattr(errno, name)
    raise OSError(number, os.strerror(number))


def tear(size: str) -> None:
    """Kill this process in the middle of the first write that makes a file larger than `size` bytes.

    The kernel itself writes as far as the limit goes, so that the file is torn there.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    limit_files(size)


def limit_files(size: str) -> None:
    """Let every write fail that makes a file larger than `size` bytes (`EFBIG`), in native code too."""
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
    """Take away the right to make, rename or remove anything below a folder; the process loses root's privilege."""
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o555)
    obey_permissions()


def obey_permissions() -> None:
    """Make the kernel check permissions for root as for anybody else."""
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
    """Remove a file, or a folder with everything in it."""
    if Path(place).is_file():
        Path(place).unlink()
    shutil.rmtree(place, ignore_errors=True)


def shift_clock(seconds: str) -> None:
    """Let this process believe that it is earlier or later."""
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
    """Let this process live in another time zone."""
    os.environ["TZ"] = name
    time.tzset()


def age(argument: str) -> None:
    """Give every file and folder below a folder a time of change: `SECONDS FOLDER`, counted from now."""
    seconds, folder = argument.split(" ", 1)
    moment = time.time() + float(seconds)
    for path in (Path(folder), *Path(folder).rglob("*")):
        with contextlib.suppress(OSError):
            os.utime(path, (moment, moment))


def wait(seconds: str) -> None:
    """Do nothing for a while."""
    time.sleep(float(seconds))


def hold(place: str) -> None:
    """Do nothing until a file is there."""
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
