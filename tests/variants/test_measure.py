"""The questions that variants are measured on."""

from pathlib import Path

import pytest

from medqa_finetune.errors import DataError
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record
from medqa_finetune.variants.measure import fingerprint, read_questions
from tests.evaluations import default_of, write_default
from tests.faulty import only_fault


def run_with(folder: Path, count: int) -> RunDir:
    run = RunDir(folder)
    rows = [{"id": f"q{n}", "question": f"问{n}", "reference": f"答{n}", "prediction": ""} for n in range(count)]
    settings = {"evaluate": {"metrics": ["rouge"]}}
    record = run.write(Record("run", "0", "done", "lora", "20k", "micro", 0, config=settings))
    if rows:
        default_of(run).append_predictions(rows)
    write_default(run, record)
    return run


def test_all_questions_come_with_their_references(tmp_path: Path) -> None:
    found = read_questions(run_with(tmp_path, 9), None)
    assert {(pair.id, pair.question, pair.answer) for pair in found} == {
        (f"q{n}", f"问{n}", f"答{n}") for n in range(9)
    }


def test_limited_questions_are_a_fixed_sample(tmp_path: Path) -> None:
    run = run_with(tmp_path, 40)
    first = read_questions(run, 10)
    assert first == read_questions(run, 10) == read_questions(run, 20)[:10]
    assert {pair.id for pair in first} != {f"q{n}" for n in range(10)}
    assert fingerprint(first) != fingerprint(read_questions(run, 11))


def test_a_run_without_answers_is_refused(tmp_path: Path) -> None:
    run = run_with(tmp_path, 0)
    with pytest.raises(DataError) as caught:
        read_questions(run, None)
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("no-questions", str(run.path))
    assert "export.measure=false" in fault.hint
