"""What is relied on of TensorBoard's table of hyperparameters: its own backend reads what we write."""

from pathlib import Path

from medqa_finetune.compat.tensorboard import write_row
from tests.tracking.hparams_backend import metric, rows_of


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_row(tmp_path / "run", "a cell", {"text": "lora", "number": 16, "flag": False}, {"score": 31.5}, step=7)
    ((row,), _) = rows_of(tmp_path)
    found = row.hparams
    assert (row.name, found["text"].string_value, found["number"].number_value) == ("a cell", "lora", 16)
    assert found["flag"].HasField("bool_value")
    assert metric(row, "score") == 31.5
    assert row.metric_values[0].training_step == 7


def test_a_later_row_in_a_folder_replaces_the_earlier(tmp_path: Path) -> None:
    for rank in (8, 16):
        write_row(tmp_path / "run", "a cell", {"rank": rank}, {"score": float(rank)}, step=0)
    ((row,), _) = rows_of(tmp_path)
    assert (row.hparams["rank"].number_value, metric(row, "score")) == (16, 16.0)


def test_a_column_with_text_and_numbers_is_text(tmp_path: Path) -> None:
    for name, rank in (("lora", 16), ("retrieval", "unused")):
        write_row(tmp_path / name, name, {"rank": rank}, {"score": 1.0}, step=0)
    rows, columns = rows_of(tmp_path)
    assert len(rows) == 2
    assert sorted(columns.hparam_infos[0].domain_discrete) == ["16.0", "unused"]
