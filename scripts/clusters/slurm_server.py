"""Starts and stops a real SLURM of one node on this machine."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "slurm_here.sh"
SERVERS = ("slurmctld", "slurmd", "munged", "sbatch")


def missing() -> str:
    """Return why no SLURM can be started here; empty where it can."""
    absent = [name for name in SERVERS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "SLURM's servers are started as root"


@contextmanager
def server(folder: Path) -> Iterator[Mapping[str, str]]:
    """Run a SLURM within the block, and yield the environment variables of its clients."""
    control(folder, "start")
    try:
        yield {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        subprocess.run(["scancel", "--me"], env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}, check=False)
        control(folder, "stop")


def control(folder: Path, what: str) -> None:
    """Start or stop the servers: `start`, `stop`."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    # The servers keep what they are given open.
    subprocess.run(["bash", str(SCRIPT), what, str(folder)], env={**os.environ, "PATH": path}, check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
