"""Units of memory, and the memory used by this process."""

import re
import sys
from pathlib import Path

MIB = 2**20
GIB = 2**30
# Most memory of a container, in bytes, or `max`: of Linux's control groups, version 2 and 1.
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def in_units(count: int) -> str:
    """Return a number of bytes as text: `1.5 GiB`, or `12.0 MiB` below one GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"


def physical_bytes() -> int:
    """Return the memory of this machine in bytes, or of the container that the process runs in if that has less."""
    import psutil  # imported late, as below

    limits = (path.read_text(encoding="ascii").strip() for path in CONTAINER_LIMITS if path.is_file())
    return min([int(psutil.virtual_memory().total), *(int(limit) for limit in limits if limit.isdecimal())])


def resident_bytes() -> int:
    """Return the current resident memory of this process, in bytes."""
    import psutil  # imported late: most commands do not need it

    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage would include the memory of the parent process at the fork.
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
