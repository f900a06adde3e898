import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.schema import Record, Score
from medqa_finetune.report import analysis
from medqa_finetune.report.analysis import Analysis, analyse
from medqa_finetune.report.comparability import Axis, Difference, Fact
from medqa_finetune.report.grouping import cells_of
from medqa_finetune.report.messages import Outcome
from medqa_finetune.report.messages import text as said
from medqa_finetune.report.notes import (
    Capped,
    Cut,
    CutKind,
    Disturbed,
    Flaw,
    FlawKind,
    NoStatistics,
    NotMeasured,
    OtherBatches,
    PickedOfMany,
    Skipped,
    TrainedOnce,
)
from medqa_finetune.report.outputs.csv import comparisons_table, scores_table
from medqa_finetune.report.outputs.markdown import as_markdown
from medqa_finetune.report.outputs.terminal import analysis_as_text
from medqa_finetune.report.runs import Run
from medqa_finetune.report.stats.intervals import Finding, Interval, SeedBasis, Settings
from medqa_finetune.report.verdict import Caution
from scripts.benchmarks.made_runs import AnswerBank, MadeRun, six, write_run
from tests.evaluations import default_of
from tests.report.builders import matrix, runs_of
from tests.report.made import changed

SETTINGS = Settings(resamples=2000, trials=2000)


@pytest.fixture(scope="module")
def bank() -> AnswerBank:
    return AnswerBank(60)


def scored(root: Path, runs: Sequence[MadeRun], bank: AnswerBank) -> list[Run]:
    found = []
    for run in runs:
        folder = write_run(root, run, bank)
        record = folder.read()
        assert record is not None
        found.append(Run(run.name, "", record, items=default_of(folder).read_item_scores))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, bank: AnswerBank) -> Analysis:
    return analyse(scored(tmp_path_factory.mktemp("six"), six(), bank), SETTINGS)


def test_every_cell_has_every_score_with_an_interval(whole: Analysis) -> None:
    assert {score.score for score in whole.scores} == {
        "rouge1",
        "rouge2",
        "rougeL",
        "bleu",
        "sentence_bleu",
        "perplexity",
    }
    assert len(whole.scores) == 7 * 6
    assert all(score.interval.low < score.value < score.interval.high for score in whole.scores)
    assert {(score.n, score.seeds, score.sd) for score in whole.scores} == {(60, 1, None)}


def test_every_pair_is_compared_once_per_score(whole: Analysis) -> None:
    rouge = [each for each in whole.comparisons if each.score == "rougeL"]
    assert len({frozenset((each.first, each.second)) for each in rouge}) == len(rouge) == 21
    values = {score.cell: score.value for score in whole.scores if score.score == "rougeL"}
    for each in rouge:
        assert each.difference == pytest.approx(values[each.second] - values[each.first])
        assert each.interval is not None
        assert each.difference is not None
        assert each.interval.low < each.difference < each.interval.high
        assert each.p is not None
        assert each.p_holm is not None
        assert each.p <= each.p_holm
        assert each.verdict is (Finding.DIFFERENT if each.p_holm < 0.05 else Finding.NONE_SHOWN)


def test_an_effect_is_cohens_d_of_the_differences(whole: Analysis, tmp_path: Path, bank: AnswerBank) -> None:
    first, second = scored(tmp_path, six()[:2], bank)
    gaps = [run.items() for run in (first, second)]
    assert gaps[0] is not None
    assert gaps[1] is not None
    found = gaps[1].values["rougeL"] - gaps[0].values["rougeL"]
    pair = next(c for c in whole.comparisons if (c.first, c.second, c.score) == ("none", "lora_20k", "rougeL"))
    assert pair.effect == pytest.approx(found.mean() / found.std(), rel=0.05)
    assert (pair.axes, pair.seeds) == ((Axis.BASELINE,), SeedBasis.ONE)


def test_it_is_the_same_every_time(tmp_path: Path, bank: AnswerBank) -> None:
    runs = scored(tmp_path, six()[:3], bank)
    assert analyse(runs, SETTINGS) == analyse(runs, SETTINGS)


def test_seeds_make_one_cell(tmp_path: Path, bank: AnswerBank) -> None:
    found = analyse(scored(tmp_path, [*six(3)], bank), SETTINGS)
    rouge = {score.cell: score for score in found.scores if score.score == "rougeL"}
    assert list(rouge) == ["none", *(f"{method}_{size}k" for method in ("lora", "qlora") for size in (20, 50, 100))]
    assert rouge["lora_20k"].seeds == 3
    assert rouge["lora_20k"].sd is not None
    assert rouge["none"].sd is None
    runs = {run.name: run.interval for run in found.runs if run.score == "rougeL"}
    assert len(runs) == 19
    seeded = [each for each in found.comparisons if each.seeds is SeedBasis.SEVERAL]
    # The base among them: to what is not trained a seed is nothing.
    assert len(seeded) == 21 * 6
    assert [verdict.advice.one_seed for verdict in found.verdicts] == [False]
    assert found.notes == ()


def test_copies_count_once(tmp_path: Path, bank: AnswerBank) -> None:
    (run,) = scored(tmp_path, [MadeRun("lora", 20_000)], bank)
    assert [len(cell.runs) for cell in cells_of([run, dataclasses.replace(run, name="copy")])] == [1]


def test_studies_are_apart(tmp_path: Path, bank: AnswerBank) -> None:
    runs = scored(tmp_path, six()[:3], bank)
    found = analyse([*runs, *(dataclasses.replace(run, study="other") for run in runs)], SETTINGS)
    assert [verdict.title for verdict in found.verdicts] == ["made-up · made up", "other · made-up · made up"]
    assert len(found.comparisons) == 2 * 3 * 6
    assert not [
        each for each in found.comparisons if each.first.startswith("other/") != each.second.startswith("other/")
    ]


def test_what_cannot_be_read_is_noted(tmp_path: Path, bank: AnswerBank) -> None:
    good, missing, wrong, other = scored(tmp_path, [MadeRun("lora", size * 1000) for size in (20, 50, 100, 200)], bank)
    evaluation = wrong.evaluation
    scores = evaluation.scores | {"rougeL": Score(99.0, evaluation.scores["rougeL"].signature)}
    items = other.items()
    assert items is not None
    renamed = ItemScores(items.predictions_sha256, np.char.add(items.ids, "x"), items.values, items.counts)
    runs = [
        good,
        dataclasses.replace(missing, items=lambda: None),
        dataclasses.replace(wrong, record=changed(wrong.known, scores=scores)),
        dataclasses.replace(other, items=lambda: renamed),
    ]
    found = analyse(runs, SETTINGS)
    assert found.notes == (
        NoStatistics("lora_50k", Flaw(FlawKind.NO_SCORES, "lora_50k")),
        NoStatistics("lora_100k", Flaw(FlawKind.OTHER_SUM, "lora_100k", score="rougeL")),
        TrainedOnce(("lora_20k", "lora_200k")),
    )
    (pair,) = [each for each in found.comparisons if each.score == "bleu"]
    assert (pair.verdict, pair.differences) == (Finding.NOT_COMPARABLE, (Difference(Fact.ANSWERED),))


def test_seeds_that_answered_other_questions_are_noted(tmp_path: Path, bank: AnswerBank) -> None:
    first, second = scored(tmp_path, [MadeRun("lora", 20_000, seed) for seed in (0, 1)], bank)
    items = second.items()
    assert items is not None
    renamed = ItemScores(items.predictions_sha256, np.char.add(items.ids, "x"), items.values, items.counts)
    found = analyse([first, dataclasses.replace(second, items=lambda: renamed)], SETTINGS)
    flaw = Flaw(FlawKind.OTHER_QUESTIONS, second.name, other=first.name)
    assert NoStatistics("lora_20k", flaw) in found.notes


def cut(record: Record, examples: float, prompts: float | None, references: float | None) -> Record:
    trained, evaluated = record.train, record.evaluation
    assert trained is not None
    assert evaluated is not None
    return record.updated(
        train=dataclasses.replace(trained, truncated_rate=examples),
        evaluation=dataclasses.replace(evaluated, prompt_cut_rate=prompts, reference_cut_rate=references),
    )


def test_what_was_cut_is_noted(tmp_path: Path) -> None:
    shares = {"lora_20k": (0.5, 0.0, 0.0001), "lora_50k": (0.25, None, None)}
    runs = runs_of(tmp_path, *(cut(each, *shares[each.name]) for each in matrix() if each.name in shares))
    examples, references = analysis.cut_notes(cells_of(runs))
    assert examples == Cut(CutKind.EXAMPLES, ("lora_20k", "lora_50k"), 0.25, 0.5)
    assert references == Cut(CutKind.REFERENCES, ("lora_20k",), 0.0001, 0.0001)
    assert "25.0%–50.0% of the training examples of lora_20k, lora_50k" in said(examples).en
    assert "0.1%" in said(references).zh


def test_a_headline_score_that_some_cells_lack_is_noted(tmp_path: Path, bank: AnswerBank) -> None:
    first, second = scored(tmp_path, six()[:2], bank)
    scores = {name: score for name, score in second.evaluation.scores.items() if name not in ("bleu", "rouge1")}
    found = analyse([first, dataclasses.replace(second, record=changed(second.known, scores=scores))], SETTINGS)
    assert NotMeasured("bleu", ("lora_20k",)) in found.notes
    assert not [note for note in found.notes if isinstance(note, NotMeasured) and note.score != "bleu"]


def test_the_caution_is_that_of_the_task(whole: Analysis) -> None:
    assert [verdict.caution for verdict in whole.verdicts] == [Caution.SAFETY]


def test_scores_of_fewer_questions_or_without_a_number_are_not_taken(tmp_path: Path, bank: AnswerBank) -> None:
    short, blank = scored(tmp_path, [MadeRun("lora", size * 1000) for size in (20, 50)], bank)
    items = [run.items() for run in (short, blank)]
    assert items[0] is not None
    assert items[1] is not None
    cut = ItemScores("", items[0].ids[1:], {name: values[1:] for name, values in items[0].values.items()})
    no_number = ItemScores("", items[1].ids, {"rougeL": np.full(60, np.nan)})
    runs = [
        dataclasses.replace(short, items=lambda: cut),
        dataclasses.replace(blank, items=lambda: no_number),
    ]
    found = analyse(runs, SETTINGS)
    assert (found.scores, found.verdicts) == ((), ())
    assert found.notes == (
        NoStatistics("lora_20k", Flaw(FlawKind.OTHER_NUMBER, "lora_20k", found=59, expected=60)),
        NoStatistics("lora_50k", Flaw(FlawKind.OTHER_SUM, "lora_50k", score="rougeL")),
    )


def test_many_cells_are_capped_and_that_is_noted(
    tmp_path: Path, bank: AnswerBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "CELLS_COMPARED", 4)
    found = analyse(scored(tmp_path, six(), bank), SETTINGS)
    assert found.notes[:2] == (Capped(7, 4, ("rougeL", "bleu")), PickedOfMany())
    assert Capped(7, 4, ("rougeL",)).pairs == 6
    compared = {cell for each in found.comparisons for cell in (each.first, each.second)}
    rouge = {score.cell: score.value for score in found.scores if score.score == "rougeL"}
    assert len(rouge) == 7
    assert compared == {"none", *sorted(rouge, key=lambda cell: -rouge[cell] if cell != "none" else 0)[:3]}
    assert {score.score for score in found.scores if score.cell not in compared} == {"rougeL", "bleu"}
    assert len({run.name for run in found.runs}) == 7


def test_nothing_done_nothing_said() -> None:
    empty = analyse([], SETTINGS)
    assert (empty.scores, empty.comparisons, empty.verdicts, analysis_as_text(empty)) == ((), (), (), "")
    assert list(comparisons_table(empty)) != []
    assert len(scores_table(empty)) == 0


def test_terminal_and_markdown_say_every_outcome(whole: Analysis) -> None:
    text = analysis_as_text(whole)
    squeezed = "".join(text.split())
    (verdict,) = whole.verdicts
    english: list[Outcome] = [whole.settings, verdict.advice, verdict.caution, *verdict.steps, *whole.notes]
    english += [fit for fit in verdict.fit if fit.score == verdict.score]
    english += [front for front in verdict.pareto if front.score == verdict.score]
    for outcome in english:
        assert "".join(said(outcome).en.split()) in squeezed
    assert "".join(said(verdict.advice).zh.split()) in squeezed
    assert all(len(line) <= 118 for line in text.splitlines())
    markdown = as_markdown(whole)
    assert str(whole.settings.seed) in said(whole.settings).zh
    assert f"\n\n{said(whole.settings).zh}\n" in markdown
    assert markdown.count("| lora\\_20k |") >= 2
    assert "## Comparisons 比较" in markdown


def test_markup_in_names_stays_text(tmp_path: Path, bank: AnswerBank) -> None:
    runs = scored(tmp_path, six()[:2], bank)
    named = dataclasses.replace(runs[1], name="<script>|x", study="")
    markdown = as_markdown(analyse([runs[0], named], SETTINGS))
    assert "<script>" not in markdown
    assert "\\<script\\>\\|x" in markdown


def test_a_seeds_part_is_in_the_interval_of_a_cell_not_of_a_run(tmp_path: Path, bank: AnswerBank) -> None:
    runs = scored(tmp_path, [MadeRun("lora", 20_000, seed, 0.5 * seed) for seed in range(3)], bank)
    found = analyse(runs, SETTINGS)
    cell = next(score.interval for score in found.scores if score.score == "rougeL")
    each = [run.interval for run in found.runs if run.score == "rougeL"]

    def width(interval: Interval) -> float:
        return interval.high - interval.low

    assert width(cell) > 1.5 * max(map(width, each))


def test_trainings_with_many_skipped_steps_are_noted(tmp_path: Path) -> None:
    skipped = {"lora_20k": 0, "lora_50k": 1, "lora_100k": 50}
    records = [changed(each, skipped_steps=skipped[each.name], steps=100) for each in matrix() if each.name in skipped]
    runs = runs_of(tmp_path, *records)
    assert list(analysis.skipped_notes(cells_of(runs))) == [Skipped(("lora_100k",), 0.5, 0.5)]
    shares = {name: steps / 100 for name, steps in skipped.items()}
    assert {run.name: run.values["train_skipped_rate"] for run in runs} == shares


def test_cells_trained_with_other_batches_are_noted(tmp_path: Path) -> None:
    records = [changed(each, micro_batch=16, gradient_checkpointing=False) for each in matrix() if each.train]
    assert list(analysis.batch_notes(cells_of(runs_of(tmp_path / "one", *records)))) == []
    records[-1] = changed(records[-1], micro_batch=4, gradient_checkpointing=True)
    cells = cells_of(runs_of(tmp_path / "two", *records))
    (note,) = analysis.batch_notes(cells)
    assert isinstance(note, OtherBatches)
    assert {(each.micro_batch, each.gradient_checkpointing, len(each.cells)) for each in note.parts} == {
        (16, False, len(cells) - 1), (4, True, 1),
    }  # fmt: skip


def test_trainings_on_a_busy_machine_are_noted(tmp_path: Path) -> None:
    shares = {"lora_20k": 0.02, "lora_50k": 0.2, "lora_100k": 0.5}
    records = [changed(each, cpu_taken_rate=shares[each.name]) for each in matrix() if each.name in shares]
    runs = runs_of(tmp_path, *records)
    assert list(analysis.disturbed_notes(cells_of(runs))) == [Disturbed(("lora_50k", "lora_100k"), 0.2, 0.5)]
    assert {run.name: run.values["train_disturbed_rate"] for run in runs} == shares
