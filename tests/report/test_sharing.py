"""What runs have in common is in memory once."""

from pathlib import Path

from medqa_finetune.report.sharing import Shared
from tests.report.builders import matrix, record, runs_of


def test_equal_parts_are_one_object_and_unequal_ones_are_not() -> None:
    shared = Shared()
    first, second = shared.value({"a": [1, 2.0]}), shared.value({"a": [1, 2.0]})
    assert first is second
    assert shared.value({"a": [1, 2]}) == {"a": [1, 2]}
    assert shared.value({"a": [1, 2]}) is not first
    assert shared.text("x" * 100) is shared.text("".join(["x"] * 100))


def test_shared_record_is_equal() -> None:
    shared = Shared()
    for each in matrix():
        assert shared.record(each) == each


def test_runs_of_a_matrix_share_settings_data_and_signatures(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, record(seed=0), record(seed=1))
    first, second = (run.known for run in runs)
    assert first.config["method"] is second.config["method"]
    assert first.data_manifest is second.data_manifest
    assert runs[0].values["signature"] is runs[1].values["signature"]
    assert first.evaluation is not None
    assert second.evaluation is not None
    for score, found in first.evaluation.scores.items():
        assert found.signature is second.evaluation.scores[score].signature
