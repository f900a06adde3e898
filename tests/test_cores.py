"""How many cores a run computes on: its affinity, a container's quota, and cells that run at the same time."""

import logging
from pathlib import Path

import pytest
import torch

from medqa_finetune import cores
from medqa_finetune.cores import PARALLEL_VARIABLE, quotas, usable_cores
from medqa_finetune.model import load


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "MOUNT", tmp_path / "fs")
    monkeypatch.setattr(cores, "own_cores", lambda: list(range(16)))
    monkeypatch.delenv(PARALLEL_VARIABLE, raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("own", "above", "usable"),
    [("max 100000", "max 100000", 16), ("400000 100000", "max 100000", 4), ("max 100000", "250000 100000", 2),
     ("50000 100000", "max 100000", 1), ("broken", "max 100000", 16)],
)  # fmt: skip
def test_quota_of_any_group_above_counts(own: str, above: str, usable: int, groups: Path) -> None:
    write(groups / "cgroup", "0::/slice/job\n")
    write(groups / "fs/slice/job/cpu.max", own)
    write(groups / "fs/slice/cpu.max", above)
    assert usable_cores() == usable


def test_first_version_of_control_groups_has_two_files(groups: Path) -> None:
    write(groups / "cgroup", "5:memory:/x\n4:cpu,cpuacct:/job\n")
    write(groups / "fs/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n")
    write(groups / "fs/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n")
    assert usable_cores() == 3


def test_container_sees_its_own_group_as_the_root(groups: Path) -> None:
    write(groups / "cgroup", "0::/../../elsewhere\n")
    write(groups / "fs/cpu.max", "200000 100000")
    assert usable_cores() == 2


def test_without_control_groups_affinity_alone_counts(groups: Path) -> None:
    assert list(quotas()) == []
    assert usable_cores() == 16


@pytest.mark.parametrize(("cells", "usable"), [("1", 16), ("3", 5), ("64", 1), ("", 16), ("x", 16), ("0", 16)])
def test_cells_at_the_same_time_share_the_cores(
    cells: str, usable: int, groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARALLEL_VARIABLE, cells)
    assert usable_cores() == usable


@pytest.mark.parametrize(
    ("typed", "begun", "usable", "others", "chosen", "warned"),
    [
        (None, None, 8, 0.0, 8, False), (None, None, 2, 0.0, 2, False), (None, None, 64, 0.0, 8, False),
        (3, None, 8, 0.0, 3, False), (None, "CPU, 4 threads", 8, 0.0, 4, False), (None, "NVIDIA T4", 8, 0.0, 8, False),
        # A run goes on with the number that it began with.
        (None, "CPU, 8 threads", 2, 0.0, 8, True), (None, None, 8, 6.0, 8, True), (2, None, 8, 6.0, 2, False),
    ],
)  # fmt: skip
def test_threads_follow_cores_and_load_is_said(
    typed: int | None, begun: str | None, usable: int, others: float, chosen: int, warned: bool,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    given: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(load, "usable_cores", lambda: usable)
    monkeypatch.setattr(load, "own_cores", lambda: list(range(8)))
    monkeypatch.setattr(load, "cores_of_others", lambda: others)
    load.set_threads(typed, begun)
    assert given == [chosen]
    assert any(record.levelno == logging.WARNING for record in caplog.records) is warned
