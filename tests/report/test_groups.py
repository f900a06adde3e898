"""What runs are called in pictures: by their method, and by what sets them apart alone."""

from pathlib import Path

from medqa_finetune.record.run_dir import find_runs
from medqa_finetune.report.groups import groups_of
from medqa_finetune.report.table import results_table, trains
from tests.report.builders import failed, record, write


def test_a_baseline_without_a_model_does_not_make_what_the_others_share_worth_saying(tmp_path: Path) -> None:
    asked = "__evaluate.text=wikitext2"
    runs = [record(method, "20k").updated(name=f"{method}_20k{asked}") for method in ("lora", "qlora")]
    # It loads no model, so settings of a model are not in its name.
    looked_up = record("retrieval", "20k", train=None)
    frame = results_table(find_runs(write(tmp_path, *runs, looked_up, record("none"))), tmp_path)
    (group,) = groups_of(frame)
    assert group.entries == ["lora", "qlora", "retrieval"]


def test_what_trains_is_known_by_its_row(tmp_path: Path) -> None:
    runs = [record("lora"), record("none"), record("retrieval", train=None), failed("qlora", "20k")]
    frame = results_table(find_runs(write(tmp_path, *runs)), tmp_path)
    found = {row["method"]: trains(row) for row in frame.to_dict("records")}
    # What failed would have trained, as far as its row says.
    assert found == {"lora": True, "none": False, "retrieval": False, "qlora": True}
