"""The processor cores that this process may compute on, and whether others compute there."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

# Number of cells that a launch runs at the same time on this machine; set for each of them.
PARALLEL_VARIABLE = "MEDQA_PARALLEL_CELLS"
# Kinds of a core's time in which it does not work; that of guests is contained in that of users.
NOT_WORKING = ("idle", "iowait", "guest", "guest_nice")
# Seconds below which the load of a machine says little.
SHORTEST_SECONDS = 1.0
CGROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def own_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))  # macOS


def usable_cores() -> int:
    """Return the number of cores whose time this process may use, ≥ 1.

    Those of its affinity (`taskset`, SLURM), no more than its quota (`docker --cpus=2`, Kubernetes), which torch does
    not look at, and shared with the cells that the launch runs at the same time.
    """
    cores = min([float(len(own_cores())), *quotas()])
    return max(1, int(cores) // parallel_cells())


def parallel_cells() -> int:
    """Return the number of cells that the launch of this process runs at the same time, ≥ 1."""
    given = os.environ.get(PARALLEL_VARIABLE, "")
    return max(1, int(given)) if given.isdecimal() else 1


def quotas() -> Iterator[float]:
    """Yield the limits of CPU time of the control groups of this process, in cores; none where there are none."""
    try:
        lines = CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container, the group's own folder is the root of what it sees.
        mounts = [MOUNT] if not controllers else [MOUNT / controllers, MOUNT / "cpu"]
        for mount in mounts:
            folder = mount / place.lstrip("/")
            yield from filter(None, map(_limit, (mount, *(each for each in (folder, *folder.parents) if each > mount))))


def _limit(folder: Path) -> float | None:
    """Return the limit of one group in cores; None without one."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip() for name in ("quota", "period")
            )
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def seconds_of_cores() -> float:
    """Return the seconds, since the machine started, that this process's cores worked for anybody.

    Time that a hypervisor gave to other machines counts.
    """
    every = psutil.cpu_times(percpu=True)
    own = [every[number] for number in own_cores() if number < len(every)]
    return sum(sum(times) - sum(getattr(times, name, 0.0) for name in NOT_WORKING) for times in own)


_begun = (time.perf_counter(), time.process_time(), seconds_of_cores())


def cores_of_others() -> float:
    """Return how many of its cores others kept busy since this process began; 0 if that is too short to tell."""
    clock, own, all_ = time.perf_counter() - _begun[0], time.process_time() - _begun[1], seconds_of_cores() - _begun[2]
    return max(0.0, (all_ - own) / clock) if clock >= SHORTEST_SECONDS else 0.0
