"""Five of the faults of `scripts/fault_trials.py`, injected into real runs; a workflow draws among all every night."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT

# Kills in a checkpoint, while questions are answered and in a second evaluation; damaged checkpoints; signals.
FAULTS = ("F2", "F3", "F11", "F13", "F21")
# The same for every change, so that a red mark is the change's.
SEED = 0
LIMIT_SECONDS = 900


@pytest.mark.slow
def test_nothing_is_lost_whatever_happens(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "scripts/fault_trials.py", f"--faults={','.join(FAULTS)}", "--trials=1", f"--seed={SEED}"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout[-4000:]}\n{ended.stderr[-2000:]}"
    assert f"{len(FAULTS)} of {len(FAULTS)} trials" in ended.stdout
