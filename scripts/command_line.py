"""Runs the package's commands in their own process, as for a user without a network."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def python(*arguments: str, cwd: Path, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with arguments and return its exit code and output.

    Args:
        arguments: What follows `python`.
        cwd: Working folder; a cache of models is looked for here, so that there is none.
        timeout: Seconds.
        variables: Added to the environment.

    Raises:
        subprocess.TimeoutExpired: it ran longer.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(cwd) | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def environment(cwd: Path) -> dict[str, str]:
    """This process's environment variables, with this package on the path, without a network and without its cache."""
    return os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "no-cache")}
