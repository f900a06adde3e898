"""What is checked of a cluster before cells run on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.cluster.ray import cluster as module
from medqa_finetune.launch.cluster.ray.cluster import Node, RayCluster, check_installed, connected
from medqa_finetune.launch.cluster.ray.settings import RayLauncherConfig
from tests.faulty import only_fault

GIB = 1 << 30
NODES = [
    Node("h", "head (10.0.0.1)", {"CPU": 2.0, "memory": 8.0 * GIB}, is_head=True),
    Node("a", "a (10.0.0.2)", {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * GIB}, is_head=False),
    Node("b", "b (10.0.0.3)", {"CPU": 4.0, "GPU": 4.0, "memory": 32.0 * GIB}, is_head=False),
]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of nodes that are asked whether they see the folder; `b` does not."""
    asked: list[str] = []

    def not_shared(nodes: list[Node], paths: list[str], outputs: Path) -> Iterator[Fault]:
        asked.extend(node.id for node in nodes)
        assert Path(paths[0]).is_file()
        yield from (Fault("not-shared", "p", key="outputs") for node in nodes if node.id == "b")

    monkeypatch.setattr(module, "_not_shared", not_shared)
    monkeypatch.setattr(RayCluster, "nodes", lambda _: NODES)
    return asked


def check(tmp_path: Path, **settings: Any) -> None:
    RayCluster(RayLauncherConfig(**settings), "10.0.0.1:6379", "").check(tmp_path)


def test_nodes_that_can_run_a_cell_must_see_the_folder(looked_at: list[str], tmp_path: Path) -> None:
    check(tmp_path, gpus_per_cell=1, cpus_per_cell=8)
    assert looked_at == ["a"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError) as caught:
        check(tmp_path)
    assert only_fault(caught).code == "not-shared"
    assert list(tmp_path.iterdir()) == []


def test_head_must_see_the_folder_where_drivers_run_on_it(looked_at: list[str], tmp_path: Path) -> None:
    check(tmp_path, cpus_per_cell=8, wait=False)
    assert looked_at == ["h", "a"]


@pytest.mark.usefixtures("looked_at")
@pytest.mark.parametrize(
    ("settings", "keys"),
    [({"gpus_per_cell": 5}, ["hydra.launcher.gpus_per_cell"]),
     ({"cpus_per_cell": 17}, ["hydra.launcher.cpus_per_cell"]),
     ({"memory": "65G", "gpus_per_cell": 8}, ["hydra.launcher.gpus_per_cell", "hydra.launcher.memory"]),
     ({"gpus_per_cell": 4, "cpus_per_cell": 8}, ["hydra/launcher"])],
)  # fmt: skip
def test_what_no_node_has_is_refused(settings: dict[str, Any], keys: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, **settings)
    assert [(fault.code, fault.key) for fault in caught.value.faults] == [("out-of-range", key) for key in keys]


def test_missing_package_is_said_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        check_installed()
    assert only_fault(caught).code == "not-installed"
    assert "[ray]" in only_fault(caught).hint


@pytest.mark.parametrize(
    ("settings", "found"),
    [({"address": "head:6379"}, None), ({"address": "head:6379"}, "10.0.0.1:6379"), ({"wait": False}, None)],
)
def test_cluster_that_does_not_answer_is_refused(
    settings: dict[str, Any], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "resolved_address", lambda _: found)
    monkeypatch.setattr(module, "answers", lambda _: False)
    monkeypatch.setitem(__import__("sys").modules, "ray", object())
    with pytest.raises(ConfigError) as caught, connected(RayLauncherConfig(**settings), {}):
        pass
    assert (only_fault(caught).code, only_fault(caught).key) == ("not-answering", "hydra.launcher.address")
