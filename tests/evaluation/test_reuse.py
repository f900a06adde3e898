"""What an evaluation takes from the others of its run, and what it never takes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.cell import Cell
from medqa_finetune.evaluation.reuse import (
    missing_benchmarks,
    needs_model,
    reuse,
    reused_rows,
    set_aside_elsewhere,
)
from medqa_finetune.record.schema import Environment, Evaluation, Reused, Score
from medqa_finetune.run_state.claim import claimed, ensure_records
from tests.cells import HERE, answer, cell_in, evaluate, result, train
from tests.evaluations import evaluation_of

IDS = list("abcde")
ELSEWHERE = {
    "versions": dataclasses.replace(HERE, versions={**HERE.versions, "transformers": "5.0.0"}),
    "precision": dataclasses.replace(HERE, precision="bf16"),
}
PERPLEXITY = Score(9.0, "perplexity|length:16|text_sha256:0a1b2c|n:3")
ACCURACY = Score(0.5, "lm-eval|task:our_task|n:3")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def asked(outputs: Path, **values: Any) -> Cell:
    """Return a cell whose evaluation has just begun."""
    cell = cell_in(outputs, **values)
    ensure_records(cell)
    return cell


def taken(cell: Cell, environment: Environment | None = HERE, ids: list[str] = IDS) -> tuple[bool, str]:
    """Let an evaluation take what it can; return whether that is all, and the ids of its answers, in order."""
    everything = reuse(cell.run, cell.evaluation, cell.settings, ids, environment)
    return everything, "".join(row["id"] for row in cell.evaluation.read_predictions())


def test_what_has_been_answered_whole_is_taken_with_its_environment(outputs: Path) -> None:
    evaluate(cell_in(outputs), "ecabd")
    cell = asked(outputs, evaluate__metrics=["rouge"])
    assert not needs_model(cell.run, cell.evaluation, cell.settings, IDS)
    assert taken(cell, environment=None) == (True, "ecabd")
    own = evaluation_of(cell)
    assert (own.reused, own.environment) == (Reused("default", 5), HERE)
    # Once more, after a kill for example, nothing changes.
    before = cell.evaluation.record_path.read_bytes()
    assert taken(cell, environment=None) == (True, "ecabd")
    assert cell.evaluation.record_path.read_bytes() == before


def test_fewer_questions_are_a_part_of_what_was_answered(outputs: Path) -> None:
    evaluate(cell_in(outputs), "ecabd")
    assert taken(asked(outputs, evaluate__max_samples=2), None, ["a", "b"]) == (True, "ab")


def test_a_part_is_taken_where_it_was_said_in_the_same_environment(outputs: Path) -> None:
    evaluate(cell_in(outputs, evaluate__max_samples=2), "ba")
    cell = asked(outputs)
    assert needs_model(cell.run, cell.evaluation, cell.settings, IDS)
    assert taken(cell, environment=None) == (False, "")
    assert evaluation_of(cell).reused is None
    assert taken(cell) == (False, "ba")
    assert (evaluation_of(cell).reused, evaluation_of(cell).environment) == (Reused("max_samples=2", 2), HERE)
    assert [row["id"] for row in reused_rows(cell.evaluation)] == ["b", "a"]


def test_of_several_the_one_that_has_answered_most_is_taken(outputs: Path) -> None:
    for most, ids in ((2, "ba"), (4, "abcd"), (3, "abc")):
        evaluate(cell_in(outputs, evaluate__max_samples=most), ids)
    cell = asked(outputs)
    assert taken(cell) == (False, "bacd")
    assert evaluation_of(cell).reused == Reused("max_samples=4", 4)


@pytest.mark.parametrize("where", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_part_is_never_mixed_with_answers_of_another_environment(outputs: Path, where: Environment) -> None:
    source = cell_in(outputs, evaluate__max_samples=2)
    evaluate(source, "ab")
    source.evaluation.update(environment=where)
    cell = asked(outputs)
    assert taken(cell) == (False, "")
    # All of them are one environment's, and may be taken as they are.
    few = asked(outputs, evaluate__max_samples=2, evaluate__metrics=["rouge"])
    assert taken(few, None, ["a", "b"]) == (True, "ab")
    assert evaluation_of(few).environment == where


def test_where_nobody_knows_the_environment_nothing_is_mixed(outputs: Path) -> None:
    source = cell_in(outputs, evaluate__max_samples=2)
    evaluate(source, "ab")
    source.evaluation.update(environment=None)
    assert taken(asked(outputs)) == (False, "")


@pytest.mark.parametrize(
    ("values", "alike"),
    [
        ({"max_new_tokens": 9}, False),
        ({"timeout_seconds": 9.0}, False),
        ({"backend": "vllm"}, False),
        ({"metrics": ["rouge"]}, True),
        ({"batch_size": 1}, True),
        ({"zero_shot": ["our_task"]}, True),
    ],
    ids=str,
)
def test_answers_are_taken_where_the_same_would_be_said(outputs: Path, values: dict[str, Any], alike: bool) -> None:
    evaluate(cell_in(outputs, evaluate__max_samples=2), "ab")
    cell = asked(outputs, **{f"evaluate__{key}": value for key, value in values.items()})
    assert taken(cell) == (False, "ab" if alike else "")


def test_looked_up_answers_do_not_depend_on_how_a_model_would_answer(outputs: Path) -> None:
    evaluate(cell_in(outputs, method__trains="lookup", evaluate__max_samples=2), "ab")
    cell = asked(outputs, method__trains="lookup", evaluate__max_new_tokens=9)
    assert taken(cell) == (False, "ab")


@pytest.mark.parametrize("damage", [b'{"id": "a"}\n', b"", None])
def test_a_source_that_is_damaged_is_left_alone(
    outputs: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    source = cell_in(outputs)
    evaluate(source, "abcde")
    path = source.evaluation.predictions_path
    path.unlink() if damage is None else path.write_bytes(damage)
    cell = asked(outputs, evaluate__metrics=["rouge"])
    assert needs_model(cell.run, cell.evaluation, cell.settings, IDS)
    assert taken(cell, environment=None) == (False, "")
    assert taken(cell) == (False, "")
    assert "predictions.jsonl" in caplog.text


def test_a_source_that_is_still_answering_gives_what_it_has(outputs: Path) -> None:
    source = cell_in(outputs)
    with claimed(source) as claim:
        train(claim)
        answer(claim, "ab")
        assert taken(asked(outputs, evaluate__max_samples=3), HERE, ["a", "b", "c"]) == (False, "ab")


def test_what_was_marked_and_not_written_is_taken_again(outputs: Path) -> None:
    """A kill between the mark and the answers."""
    evaluate(cell_in(outputs, evaluate__max_samples=2), "ab")
    cell = asked(outputs)
    cell.evaluation.update(reused=Reused("max_samples=2", 2))
    assert reused_rows(cell.evaluation) == []
    assert taken(cell) == (False, "ab")


def test_answers_of_its_own_stay_as_they_are(outputs: Path) -> None:
    evaluate(cell_in(outputs, evaluate__max_samples=3), "abc")
    cell = asked(outputs)
    cell.evaluation.append_predictions([{"id": "e"}])
    assert taken(cell) == (False, "e")
    assert evaluation_of(cell).reused is None
    assert reused_rows(cell.evaluation) == []
    # All of them are no reason to go without the model: what they cost is still to be added up.
    assert taken(cell, ids=["e"]) == taken(cell, None, ["e"]) == (False, "e")


def test_answers_alone_are_not_everything_where_a_benchmark_is_asked_for(outputs: Path) -> None:
    evaluate(cell_in(outputs), "abcde")
    cell = asked(outputs, evaluate__zero_shot=["our_task"])
    assert needs_model(cell.run, cell.evaluation, cell.settings, IDS)
    assert taken(cell, environment=None) == (False, "abcde")


def test_a_run_that_is_not_trained_needs_its_model(outputs: Path) -> None:
    cell = asked(outputs)
    assert needs_model(cell.run, cell.evaluation, cell.settings, IDS)
    assert taken(cell, environment=None) == (False, "")


# Benchmarks.


def benchmarked(outputs: Path, **values: Any) -> Cell:
    """Return a done evaluation that has run both kinds of benchmarks."""
    cell = cell_in(outputs, evaluate__zero_shot=["our_task", "cmmlu"], evaluate__text="wikitext2", **values)
    evaluate(cell, "abcde")
    cell.evaluation.update(exams={"our_task/acc": ACCURACY, "wikitext2/perplexity": PERPLEXITY})
    return cell


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"zero_shot": ["cmmlu", "our_task"], "text": "wikitext2", "metrics": ["rouge"]}, "both"),
        ({"zero_shot": ["cmmlu", "our_task"], "max_new_tokens": 9}, "tasks"),
        ({"text": "wikitext2"}, "text"),
        ({"text": "wikitext2", "stride": 8}, "none"),
        ({"text": "text", "text_path": "a.txt"}, "none"),
        ({"zero_shot": ["cmmlu"], "text": "wikitext2"}, "text"),
        ({"zero_shot": ["cmmlu", "our_task"], "max_samples": 2}, "none"),
        ({"zero_shot": ["cmmlu", "our_task"], "zero_shot_folder": "."}, "none"),
        ({}, "none"),
    ],
    ids=str,
)
def test_benchmarks_are_taken_where_settings_and_place_agree(outputs: Path, values: dict[str, Any], kind: str) -> None:
    benchmarked(outputs)
    cell = asked(outputs, **{f"evaluate__{key}": value for key, value in values.items()})
    everything, answers = taken(cell)
    assert everything is (bool(answers) and missing_of(cell) == [])
    expected = {"tasks": {"our_task/acc"}, "text": {"wikitext2/perplexity"}, "none": set[str]()}
    found = evaluation_of(cell).exams.keys()
    assert found == expected.get(kind, expected["tasks"] | expected["text"])


def missing_of(cell: Cell) -> list[str]:
    return missing_benchmarks(evaluation_of(cell))


@pytest.mark.parametrize("where", ELSEWHERE.values(), ids=ELSEWHERE)
def test_benchmarks_of_another_environment_run_again(outputs: Path, where: Environment) -> None:
    benchmarked(outputs).evaluation.update(environment=where)
    cell = asked(outputs, evaluate__text="wikitext2")
    assert taken(cell) == (False, "")
    assert missing_of(cell) == ["text"]


def test_which_benchmarks_are_missing() -> None:
    settings = {"zero_shot": ["our_task"], "text": "wikitext2"}
    evaluation = Evaluation("default", "i", "running", settings)
    assert missing_benchmarks(evaluation) == ["tasks", "text"]
    # A task may have a perplexity of its own.
    task = {"lambada/perplexity": Score(30.0, "lm-eval|task:lambada")}
    assert missing_benchmarks(evaluation.updated(exams=task)) == ["text"]
    assert missing_benchmarks(evaluation.updated(exams={"wikitext2/perplexity": PERPLEXITY})) == ["tasks"]
    assert missing_benchmarks(evaluation.updated(exams={**task, "wikitext2/perplexity": PERPLEXITY})) == []
    assert missing_benchmarks(evaluation.updated(settings={})) == []


# An evaluation that was begun elsewhere.


@pytest.mark.parametrize("where", [HERE, *ELSEWHERE.values()], ids=["here", *ELSEWHERE])
def test_an_evaluation_that_was_begun_elsewhere_starts_anew(
    outputs: Path, where: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    cell = cell_in(outputs)
    with claimed(cell) as claim:
        train(claim)
        answer(claim, "ab")
    cell.evaluation.update(environment=where)
    set_aside_elsewhere(cell.evaluation, HERE)
    aside = cell.evaluation.path.with_name("default.old-1")
    assert aside.exists() is (where != HERE)
    assert ("moved aside" in caplog.text) is (where != HERE)
    with claimed(cell) as claim:
        claim.begin_evaluation()
        answer(claim, "abc")
        claim.finish(result())
    ids = [row["id"] for row in cell.evaluation.read_predictions()]
    assert ids == list("abc")
    assert evaluation_of(cell).environment == HERE


def test_one_that_had_not_said_anything_goes_on_anywhere(outputs: Path) -> None:
    cell = asked(outputs)
    cell.evaluation.update(environment=ELSEWHERE["versions"])
    set_aside_elsewhere(cell.evaluation, HERE)
    assert cell.evaluation.read() is not None


def test_lines_of_a_source_are_written_as_they_are(outputs: Path) -> None:
    evaluate(cell_in(outputs), "abcde")
    source = cell_in(outputs).evaluation
    cell = asked(outputs, evaluate__metrics=["rouge"])
    taken(cell)
    assert cell.evaluation.predictions_path.read_bytes() == source.predictions_path.read_bytes()
    assert "多休息" in cell.evaluation.predictions_path.read_text(encoding="utf-8")
    assert json.loads(cell.evaluation.predictions_path.read_text(encoding="utf-8").splitlines()[0])["id"] == "a"
