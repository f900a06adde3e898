"""Identifies this machine and its processes, so that a lease can be judged by where its holder runs."""

import contextlib
import os
import socket
from pathlib import Path

import psutil

# Name of this machine in leases. Clones of one memory image share host name and boot id, and must differ here.
HOST_VARIABLE = "MEDQA_HOST"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")
# Of the fields of /proc/PID/stat after the command: the state, and the start in clock ticks since boot.
STATE, START = 0, 19
ENDED = ("Z", "X", "x")


def host_name() -> str:
    """Return the name of this machine."""
    return os.environ.get(HOST_VARIABLE) or socket.gethostname()


def host_identity() -> str:
    """Return what all processes have in common that see each other by process id.

    Containers may share a host name, and a machine that was restarted keeps its own: boot and process ids count too.
    """
    parts = [host_name()]
    with contextlib.suppress(OSError):
        parts += [BOOT_ID.read_text(encoding="ascii").strip(), str(NAMESPACE.readlink())]
    return " ".join(parts)


def start_of(pid: int) -> str | None:
    """Return when a process of this machine started, in a form that only serves to compare; None if it has ended.

    On Linux, no change of the clock changes it.

    Raises:
        PermissionError: there is such a process, and this user may not look at it.
    """
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
        return None
    try:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        with contextlib.suppress(ProcessLookupError):
            # /proc may hide processes of other users.
            os.kill(pid, 0)
            raise PermissionError(f"process {pid} is hidden") from None
        return None
    return None if fields[STATE] in ENDED else fields[START]
