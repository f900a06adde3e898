"""A cluster for tests, whose queue is a file."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.launch.cluster.fake_slurm import COMMANDS

FAKE = Path(__file__).with_name("fake_slurm.py")


@dataclass(frozen=True)
class FakeSlurm:
    """The state that the commands share."""

    path: Path

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return state

    def set(self, **values: Any) -> None:
        self.path.write_text(json.dumps(self.state() | values), encoding="utf-8")

    def calls(self, name: str) -> list[list[str]]:
        """Return the arguments of every call of a command."""
        return [call[1:] for call in self.state()["calls"] if call[0] == name]

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return all jobs by name."""
        return {job["name"]: job for job in self.state()["jobs"]}

    def change(self, job_name: str, **values: Any) -> None:
        """Change a job."""
        jobs = self.state()["jobs"]
        for job in jobs:
            if job["name"] == job_name:
                job.update(values)
        self.set(jobs=jobs)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """SLURM's commands, in front of all others on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in COMMANDS:
        path = folder / name
        # Without site-packages, Python starts in a moment.
        path.write_text(f"#!{sys.executable} -IS\n{FAKE.read_text(encoding='utf-8')}", encoding="utf-8")
        path.chmod(0o755)
    fake = FakeSlurm(tmp_path / "jobs.json")
    fake.path.write_text(json.dumps({"jobs": [], "calls": [], "shown": {}}), encoding="utf-8")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(fake.path))
    return fake
