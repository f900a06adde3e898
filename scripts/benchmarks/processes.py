"""Runs programs in their own processes, and reads their last output line."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_module(name: str, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a Python module from the root of the repository to its end, and return its output."""
    return subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def last_line(printed: str) -> str:
    """Return the last line of what a program printed."""
    return (printed.strip().splitlines() or ["it printed nothing"])[-1]
