"""A Ray cluster without Ray."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from medqa_finetune.launch.cluster.ray import jobs, launcher
from medqa_finetune.launch.cluster.ray.settings import RayLauncherConfig
from tests.launch.cluster.ray.fakes import FakeCluster, FakeJobs


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """The cluster that a launcher connects to."""
    fake = FakeCluster()

    @contextmanager
    def connected(settings: RayLauncherConfig, variables: Mapping[str, str]) -> Iterator[FakeCluster]:
        yield fake

    monkeypatch.setattr(launcher, "connected", connected)
    return fake


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    """The jobs of the cluster."""
    fake = FakeJobs()
    monkeypatch.setattr(jobs, "client_at", lambda _: fake)
    return fake
