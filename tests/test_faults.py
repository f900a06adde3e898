"""Five faults of the plan, other ones after every commit, injected into real runs; `python -m tests.faults` has all."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.plan import FAULTS

ROOT = Path(__file__).parents[1]
DRAWN = 5
LIMIT_SECONDS = 900


@pytest.mark.slow
def test_nothing_is_lost_whatever_happens(tmp_path: Path) -> None:
    commit = newest_commit()
    chance = random.Random(commit)  # noqa: S311
    faults = ",".join(sorted(chance.sample(sorted(FAULTS), DRAWN)))
    seed = str(chance.randrange(1_000_000))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--trials", "1", "--faults", faults, "--seed", seed],
        cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, encoding="utf-8",
        timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"commit {commit}:\n{ended.stdout[-4000:]}\n{ended.stderr[-2000:]}"
    assert f"{DRAWN} of {DRAWN} trials" in ended.stdout


def newest_commit() -> str:
    """Return the hash of the commit that is checked out; a fixed text where there is none to ask for."""
    git = shutil.which("git")
    if git is None:
        return "no git"
    asked = subprocess.run([git, "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    return asked.stdout.strip() if asked.returncode == 0 else "no commit"
