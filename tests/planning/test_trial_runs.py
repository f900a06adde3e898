"""A rehearsal goes through the stages of a real cell, and what it measures is near what the cell then takes."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.planning.trial_runs import TrialRequest, run_trial
from tests.planning.test_workload import cell
from tests.training.trial import one_thread


@pytest.fixture(autouse=True)
def single_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("medqa_finetune.planning.trial_runs.STEPS_SECONDS", 0.0)  # the fewest steps
    with one_thread():
        yield


def trial_of(config: Config, folder: Path) -> TrialRequest:
    return TrialRequest(
        dataclasses.replace(config, outputs=str(folder / "out")), str(folder / "cache"), [3, 1, 4, 7], 0.5
    )


def test_every_stage_is_measured(micro_model: Path, tmp_path: Path) -> None:
    found = run_trial(trial_of(cell(micro_model), tmp_path))
    assert 0 < found.train_seconds < 1
    assert found.prompt_seconds == found.train_seconds * 0.5
    assert 0 < found.encoding_seconds < 0.1
    assert found.answer_seconds >= 0
    assert found.reference_seconds > 0
    # Random weights hardly ever say the end token.
    assert 1 < found.answer_tokens <= 512
    assert found.fixed_seconds > 0
    assert found.memory_bytes > 10**8


def test_the_base_is_not_trained(micro_model: Path, tmp_path: Path) -> None:
    found = run_trial(trial_of(cell(micro_model, MethodConfig(name="none", trains="nothing")), tmp_path))
    assert (found.train_seconds, found.prompt_seconds, found.encoding_seconds) == (0, 0, 0)
    assert found.answer_seconds > 0
    assert not (tmp_path / "out" / "heaviest").exists()
