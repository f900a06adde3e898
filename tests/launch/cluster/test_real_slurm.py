"""Cells on a real SLURM of one node on this machine, disturbed in every way: `python -m pytest -m slurm`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.clusters.slurm_cases import CASES, SlurmStage
from scripts.clusters.slurm_server import missing, server
from scripts.clusters.stage import run_case, undisturbed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=f"needs a SLURM of its own: {missing()}"),
]
# Exit code of the first command, for the causes that end it; the others leave it, or kill it.
CODES = {"cancelled": 1, "launcher-killed": None}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmStage]:
    place: Path = tmp_path_factory.mktemp("slurm")
    with server(place / "server") as variables:
        yield SlurmStage(place, variables)


@pytest.fixture(scope="module")
def expected(stage: SlurmStage) -> bytes:
    """Results of an undisturbed run by the local launcher."""
    return undisturbed(stage)


@pytest.mark.parametrize("name", CASES)
def test_disturbed_cell_comes_to_equal_results(name: str, stage: SlurmStage, expected: bytes) -> None:
    outcome = run_case(name, CASES[name], stage, expected)
    assert outcome.equal
    assert outcome.first_code == CODES.get(name, 0)
    # The launcher's end does not disturb the cell; a cancelled one is gone from the queue.
    assert outcome.starts == (1 if name == "launcher-killed" else 2)
    assert outcome.submitted_again is (name == "cancelled")
    if outcome.starts > 1:
        assert len(outcome.resumed_from) == 1
        assert outcome.resumed_from[0] > 0
