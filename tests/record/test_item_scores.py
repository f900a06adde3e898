from pathlib import Path

import numpy as np
import pytest

from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.item_scores import ItemScores, read_item_scores, to_bytes, write_item_scores


def scores(sha256: str = "0" * 64) -> ItemScores:
    return ItemScores(
        sha256,
        np.array(["甲", "b", "😊c"]),
        {"rougeL": np.array([0.0, 100 / 3, 100.0])},
        {"bleu": {"sys_len": np.array([3, 0, 2])}, "perplexity": {"nll": np.array([0.5, 1e-9, 2.25])}},
    )


def test_columns_come_back_as_they_were(tmp_path: Path) -> None:
    write_item_scores(tmp_path / "s.npz", scores())
    read = read_item_scores(tmp_path / "s.npz")
    assert read is not None
    assert read.predictions_sha256 == "0" * 64
    assert read.ids.tolist() == ["甲", "b", "😊c"]
    assert read.values["rougeL"].tolist() == [0.0, 100 / 3, 100.0]
    assert read.counts["bleu"]["sys_len"].tolist() == [3, 0, 2]
    assert read.counts["bleu"]["sys_len"].dtype == "int64"
    assert read.counts["perplexity"]["nll"].tolist() == [0.5, 1e-9, 2.25]


def test_the_file_is_plain_numpy_with_the_names_that_are_documented(tmp_path: Path) -> None:
    write_item_scores(tmp_path / "s.npz", scores())
    with np.load(tmp_path / "s.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == [
            "count.bleu.sys_len", "count.perplexity.nll", "ids", "predictions_sha256", "value.rougeL",
        ]  # fmt: skip
        assert arrays["predictions_sha256"].shape == ()


def test_the_same_scores_are_the_same_bytes() -> None:
    assert to_bytes(scores()) == to_bytes(scores())
    assert to_bytes(scores()) != to_bytes(scores("1" * 64))


@pytest.mark.parametrize("size", [0, 10, 400])
def test_a_torn_file_counts_as_none(tmp_path: Path, size: int) -> None:
    write_item_scores(tmp_path / "s.npz", scores())
    (tmp_path / "s.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:size])
    assert read_item_scores(tmp_path / "s.npz") is None
    assert read_item_scores(tmp_path / "none.npz") is None


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="not every column has 1 rows"):
        ItemScores("", np.array(["a"]), {"rougeL": np.array([1.0, 2.0])})


def test_an_evaluation_has_them_only_for_its_own_predictions(tmp_path: Path) -> None:
    evaluation = EvaluationDir(tmp_path)
    assert evaluation.read_item_scores() is None
    evaluation.append_predictions([{"id": "a"}])
    assert evaluation.write_item_scores(scores(sha256_of(evaluation.predictions_path)))
    assert not evaluation.write_item_scores(scores(sha256_of(evaluation.predictions_path)))
    assert evaluation.read_item_scores() is not None
    evaluation.append_predictions([{"id": "b"}])
    assert evaluation.read_item_scores() is None
