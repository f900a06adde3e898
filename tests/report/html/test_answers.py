from pathlib import Path

from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.report.grouping import groups_of
from medqa_finetune.report.html.answers import EMPTY, HIT_LIMIT, Answers, answers_of
from medqa_finetune.report.load import load_runs
from medqa_finetune.report.notes import LowestSeed, QuestionsDrawn, TextsCut
from tests.evaluations import default_of
from tests.report.builders import record
from tests.report.folders import NASTY, write_folders


def answers(root: Path, *seeds: int, count: int = 40, budget: int = 10**9) -> Answers:
    records = [record("lora", data, seed) for data in ("20k", "50k") for seed in seeds]
    write_folders(root, records, count)
    (group,) = groups_of(load_runs(find_runs(root), root))
    return answers_of(group.cells, budget)


def test_one_run_per_cell_side_by_side(tmp_path: Path) -> None:
    found = answers(tmp_path, 3, 1, 2)
    assert [(cell["label"], cell["seed"]) for cell in found.cells] == [
        ({"en": name, "zh": name}, 1) for name in ("LoRA 20k", "LoRA 50k")
    ]
    assert found.as_data()["titles"] == {"rougeL": {"en": "ROUGE-L", "zh": "ROUGE-L"}}
    assert len(found.items) == 40
    key, question, reference, texts, scores, flags = found.items[35]
    assert (key, question, reference) == ("q00035", "第 35 题：头痛怎么办？", "注意休息，不要熬夜（35）。")
    assert [str(text).split()[0] for text in texts] == ["lora_20k__seed=1", "lora_50k__seed=1"]
    assert flags == [HIT_LIMIT, HIT_LIMIT]
    assert found.scores == ["rougeL"]
    assert [len(values or []) for values in scores] == [1, 1]
    assert found.notes == [LowestSeed(), TextsCut(2, 4000)]


def test_scores_are_those_of_the_question(tmp_path: Path) -> None:
    found = answers(tmp_path, 0)
    stored = default_of(RunDir(tmp_path / "lora_50k")).read_item_scores()
    assert stored is not None
    shown = [item.scores[1] for item in found.items]
    assert shown == [[round(float(value), 2)] for value in stored.values["rougeL"]]


def test_long_texts_are_cut_and_empty_ones_flagged(tmp_path: Path) -> None:
    found = answers(tmp_path, 0)
    cut = [text for item in found.items for text in item.predictions if str(text).endswith("… [+26,000]")]
    assert len(cut) == 2
    assert TextsCut(2, 4000) in found.notes
    flagged = [pair for item in found.items for pair in zip(item.predictions, item.flags, strict=True)]
    empty = [flags for text, flags in flagged if not str(text).strip()]
    assert len(empty) == 2 * sum(not text.strip() for text in NASTY)
    assert all(flags & EMPTY for flags in empty)


def test_a_budget_draws_the_same_questions_every_time(tmp_path: Path) -> None:
    found = answers(tmp_path, 0, count=400, budget=60_000)
    assert 0 < len(found.items) < 400
    assert [item.id for item in found.items] == sorted(item[0] for item in found.items)
    assert found.items == answers(tmp_path / "again", 0, count=400, budget=60_000).items
    assert QuestionsDrawn(len(found.items), 400) in found.notes


def test_a_question_that_a_run_lacks(tmp_path: Path) -> None:
    records = [record("lora", "20k"), record("lora", "50k")]
    write_folders(tmp_path, records)
    path = default_of(RunDir(tmp_path / "lora_50k")).predictions_path
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    (group,) = groups_of(load_runs(find_runs(tmp_path), tmp_path))
    last = answers_of(group.cells).items[-1]
    assert (last[3][1], last[4][1], last[5][1]) == (None, None, 0)
