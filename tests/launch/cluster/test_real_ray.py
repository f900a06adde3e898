"""Cells on a real Ray cluster on this machine, disturbed in every way: `python -m pytest -m ray`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.clusters.ray_cases import CASES, RayStage
from scripts.clusters.ray_server import missing, server
from scripts.clusters.stage import run_case, undisturbed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.skipif(bool(missing()), reason=f"needs a Ray cluster of its own: {missing()}"),
]
# Exit code of the first command, where it is not 0.
CODES = {"launcher-stopped": 143, "launcher-killed": -9}
# Cases in which the cell is started once.
UNDISTURBED = ("left",)
RUN_AGAIN = ("launcher-stopped", "launcher-killed", "job-stopped")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayStage]:
    place: Path = tmp_path_factory.mktemp("ray")
    with server() as (cluster, variables):
        yield RayStage(place, variables, cluster)


@pytest.fixture(scope="module")
def expected(stage: RayStage) -> bytes:
    """Results of an undisturbed run by the local launcher."""
    return undisturbed(stage)


@pytest.mark.parametrize("name", CASES)
def test_disturbed_cell_comes_to_equal_results(name: str, stage: RayStage, expected: bytes) -> None:
    outcome = run_case(name, CASES[name], stage, expected)
    assert outcome.equal
    assert outcome.first_code == CODES.get(name, 0)
    assert outcome.submitted_again is (name in RUN_AGAIN)
    assert (outcome.starts == 1) is (name in UNDISTURBED)
    if outcome.starts > 1:
        assert outcome.resumed_from
        assert outcome.resumed_from[0] > 0
