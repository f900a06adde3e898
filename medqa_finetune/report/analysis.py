"""Turns records and per-question scores into intervals, comparisons and verdicts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from medqa_finetune.config.labels import method_label
from medqa_finetune.evaluation.metric_registry import headlines
from medqa_finetune.report.grouping import Family, cells_of, families_of
from medqa_finetune.report.names import evaluation_shown
from medqa_finetune.report.notes import (
    Batches,
    Capped,
    Cut,
    CutKind,
    Disturbed,
    Flaw,
    FlawKind,
    NoStatistics,
    Note,
    NotMeasured,
    OtherBatches,
    PickedOfMany,
    Skipped,
    TrainedOnce,
)
from medqa_finetune.report.recommend import recommend
from medqa_finetune.report.runs import Cell, Run
from medqa_finetune.report.scores import headline_columns, score_info
from medqa_finetune.report.stats.choice import Chosen, choose
from medqa_finetune.report.stats.compare import ScoreResults, compare_all, resample_scores
from medqa_finetune.report.stats.contrasts import size_answers
from medqa_finetune.report.stats.groups import GroupScore, group_scores
from medqa_finetune.report.stats.intervals import (
    CellScore,
    Comparison,
    Interval,
    Resampled,
    Settings,
    cell_score,
    value_interval,
)
from medqa_finetune.report.stats.pareto import explained, fronts_of, steps_of
from medqa_finetune.report.stats.samples import CellSamples, samples_of
from medqa_finetune.report.stats.scaling import fit_of, series_of
from medqa_finetune.report.unfinished import unfinished_of
from medqa_finetune.report.verdict import Caution, Unfinished, Verdict

# 10,000 trials give no p below 1/10,001; over more than 500 pairs, Holm's correction could find no difference.
# 32 cells make 496.
CELLS_COMPARED = 32
# Cells that are read and resampled together without being compared.
AT_ONCE = 64
# A gradient scaler skips a few steps where it begins, and one whenever it tries a larger scale, every 2,000 steps.
USUALLY_SKIPPED = 0.01


@dataclass(frozen=True)
class RunScore:
    """Interval of one score of one run, over questions alone (no part for seeds)."""

    study: str
    name: str
    score: str
    interval: Interval


@dataclass(frozen=True)
class Analysis:
    """Results of the analysis of a table of runs.

    Attributes:
        settings: How it was done, including the seed.
        scores: Scores of every cell with intervals.
        runs: The headline scores of every single run with intervals, over questions alone.
        comparisons: One per compared pair of cells and score.
        verdicts: One per study and corpus.
        notes: What was left out, capped or unreadable, and why.
        labels: What cells and series are called, by name.
        groups: Headline scores per group of questions (`corpus.group`).
        unfinished: Runs that are not done, one entry per study that has any.
    """

    settings: Settings
    scores: tuple[CellScore, ...]
    runs: tuple[RunScore, ...]
    comparisons: tuple[Comparison, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[Note, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    unfinished: tuple[Unfinished, ...] = ()
    groups: tuple[GroupScore, ...] = ()


def analyse(runs: Sequence[Run], settings: Settings) -> Analysis:
    """Compute intervals, comparisons and verdicts over the done runs with scores.

    Each family (`grouping.families_of`: one study, corpus, task and evaluation) is analysed separately.
    """
    cells = cells_of(runs)
    found = [_family(key, family, settings) for key, family in families_of(cells).items()]
    labels = {name: label for each in found for name, label in each.labels.items()}
    return Analysis(
        settings,
        tuple(score for each in found for score in each.scores),
        tuple(run for each in found for run in each.runs),
        tuple(comparison for each in found for comparison in each.comparisons),
        tuple(verdict for each in found for verdict in each.verdicts),
        tuple(note for each in found for note in each.notes),
        labels | {cell.name: cell.label for cell in cells if cell.label},
        unfinished_of(runs),
        tuple(group for each in found for group in each.groups),
    )


def _family(key: Family, cells: Sequence[Cell], settings: Settings) -> Analysis:
    counted = choose(cells)
    chosen, rest = chosen_cells(cells, {cell.name for cell in counted.cells})
    read, notes = _read(chosen, None)
    results = {score: compare_all(read, score, settings, counted.keys) for score in _scores_of(read)}
    scores = [each for score in results.values() for each in score.scores]
    notes += [note for score in results for note in _unpaired(read, score)]
    runs = [
        each
        for score in headline_columns()
        if score in results
        for each in _runs(chosen, results[score].resampled, score, settings)
    ]
    for start in range(0, len(rest), AT_ONCE):
        others, more = _read(rest[start : start + AT_ONCE], headline_columns())
        notes += more
        for score in _scores_of(others):
            resampled = {each.cell: each for each in resample_scores(others, score, settings)}
            scores += [cell_score(each, score, settings) for each in resampled.values()]
            runs += _runs(rest[start : start + AT_ONCE], resampled, score, settings)
    notes += [
        *_one_seed([each.cell for each in read]),
        *cut_notes(cells),
        *disturbed_notes(cells),
        *skipped_notes(cells),
        *batch_notes(cells),
    ]
    if rest:
        notes[:0] = [_capped(len(cells), chosen), PickedOfMany()]
    comparisons = tuple(each for score in results.values() for each in score.comparisons)
    names = {cell.name for cell in counted.cells}
    compared = replace(counted, cells=tuple(each.cell for each in read if each.cell.name in names))
    verdicts = (_verdict(key, compared, results, settings),) if read else ()
    labels = {name: _shared_entry(group) for name, group in _series(compared).items() if group[0].entry}
    groups = tuple(group_scores(read, headline_columns(), settings))
    return Analysis(settings, tuple(scores), tuple(runs), comparisons, verdicts, tuple(notes), labels, (), groups)


def _series(counted: Chosen) -> dict[str, list[Cell]]:
    return series_of(counted.cells, {key for keys in counted.keys.values() for key in keys})


def _shared_entry(series: Sequence[Cell]) -> str:
    """Return what the cells of a series are called; the method, where other values were chosen at other sizes."""
    entries = {cell.entry for cell in series}
    return entries.pop() if len(entries) == 1 else method_label(series[0].first.method)


def _runs(cells: Sequence[Cell], resampled: dict[str, Resampled], score: str, settings: Settings) -> Iterator[RunScore]:
    for cell in cells:
        if cell.name in resampled:
            found = resampled[cell.name]
            for run, draws in zip(cell.runs, found.draws, strict=True):
                yield RunScore(run.study, run.name, score, value_interval(draws, found.n, score, settings))


def chosen_cells(cells: Sequence[Cell], counted: Set[str] = frozenset()) -> tuple[list[Cell], list[Cell]]:
    """Split cells into those that are compared with each other, and the rest.

    If there are too many to compare all, untrained cells are taken first, then the `counted` ones, which were chosen by
    validation loss, then those with the best first headline score.
    """
    if len(cells) <= CELLS_COMPARED:
        return list(cells), []
    ranked = sorted(cells, key=lambda cell: (cell.trains, cell.name not in counted, -_headline(cell)))
    names = {cell.name for cell in ranked[:CELLS_COMPARED]}
    return [cell for cell in cells if cell.name in names], [cell for cell in cells if cell.name not in names]


def _headline(cell: Cell) -> float:
    """Return the first of a cell's headline scores, signed so that higher is better."""
    for score in headlines():
        values = [score.sign * run.scores[score.name].value for run in cell.runs if score.name in run.scores]
        if values:
            return sum(values) / len(values)
    return float("-inf")


def _read(cells: Sequence[Cell], scores: tuple[str, ...] | None) -> tuple[list[CellSamples], list[Note]]:
    read: list[CellSamples] = []
    notes: list[Note] = []
    for cell in cells:
        found = samples_of(cell, scores)
        if isinstance(found, Flaw):
            notes.append(NoStatistics(cell.name, found))
        elif len(found.ids) < 2:
            notes.append(NoStatistics(cell.name, Flaw(FlawKind.ONE_QUESTION)))
        else:
            read.append(found)
    return read, notes


def _scores_of(cells: Sequence[CellSamples]) -> list[str]:
    return list(dict.fromkeys(score for each in cells for score in each.samples))


def _unpaired(cells: Sequence[CellSamples], score: str) -> Iterator[Note]:
    lacking = tuple(each.cell.name for each in cells if score not in each.samples)
    if lacking and score in headline_columns():
        yield NotMeasured(score, lacking)


def _one_seed(cells: Sequence[Cell]) -> Iterator[Note]:
    once = tuple(cell.name for cell in cells if cell.trains and len(cell.runs) == 1)
    if once:
        yield TrainedOnce(once)


CUT_COLUMNS = {
    CutKind.EXAMPLES: "train_truncated_rate",
    CutKind.PROMPTS: "prompt_cut_rate",
    CutKind.REFERENCES: "reference_cut_rate",
}


def cut_notes(cells: Sequence[Cell]) -> Iterator[Note]:
    """Yield what was cut to fit `train.max_length`, in which cells, and which share of it."""
    for kind, column in CUT_COLUMNS.items():
        shares = {cell.name: cell.mean(column) for cell in cells if cell.measured(column)}
        found = {name: share for name, share in shares.items() if share > 0}
        if found:
            yield Cut(kind, tuple(found), min(found.values()), max(found.values()))


def disturbed_notes(cells: Sequence[Cell]) -> Iterator[Note]:
    """Yield the cells whose times do not compare, and how much of them was taken."""
    shares = {cell.name: cell.disturbance for cell in cells if cell.disturbed}
    if shares:
        yield Disturbed(tuple(shares), min(shares.values()), max(shares.values()))


def batch_notes(cells: Sequence[Cell]) -> Iterator[Note]:
    """Yield the cells of one model and device whose costs do not compare for their micro-batch or checkpointing."""
    places: dict[tuple[object, ...], dict[tuple[int, bool], list[str]]] = {}
    for cell in cells:
        for run in cell.runs:
            train, place = run.known.train, run.known.environment
            if train is not None and train.micro_batch is not None and train.gradient_checkpointing is not None:
                device = place.device if place is not None else None
                parts = places.setdefault((run.known.model, device), {})
                names = parts.setdefault((train.micro_batch, train.gradient_checkpointing), [])
                names += [cell.name] if cell.name not in names else []
    for parts in places.values():
        if len(parts) > 1:
            yield OtherBatches(tuple(Batches(*values, tuple(names)) for values, names in parts.items()))


def skipped_notes(cells: Sequence[Cell]) -> Iterator[Note]:
    """Yield the cells with more training steps that changed nothing than a scaler's usual few, and their share."""
    shares = {cell.name: cell.mean("train_skipped_rate") for cell in cells if cell.measured("train_skipped_rate")}
    found = {name: share for name, share in shares.items() if share > USUALLY_SKIPPED}
    if found:
        yield Skipped(tuple(found), min(found.values()), max(found.values()))


def _capped(total: int, chosen: Sequence[Cell]) -> Capped:
    measured = {score for cell in chosen for run in cell.runs for score in run.scores}
    scores = tuple(score for score in headline_columns() if score in measured)
    return Capped(total, len(chosen), scores or headline_columns()[:1])


def _verdict(key: Family, counted: Chosen, results: dict[str, ScoreResults], settings: Settings) -> Verdict:
    cells = counted.cells
    known = [score for score in results if results[score].resampled]
    # Without a computed headline score, the first score with a direction takes its place.
    others = [score for score in known if score_info(score).sign]
    leading = [score for score in headline_columns() if score in known] or others[:1]
    models = Counter(cell.first.model for cell in cells)
    evaluation = evaluation_shown(cells[0].first.evaluation_name)
    name = " · ".join(part for part in (key[0], " + ".join(models), key[1], evaluation) if part)
    series = _series(counted)
    fits, fronts, steps, sizes = [], [], [], []
    for score in leading:
        resampled = results[score].resampled
        fits += [fit_of(each, group, resampled, score, settings) for each, group in series.items()]
        fronts += fronts_of(cells, resampled, score, settings)
        steps += steps_of(series, results[score].comparisons, score, settings)
        sizes += size_answers(cells, results[score].comparisons, score)
    first = leading[0] if leading else ""
    found = results[first] if leading else ScoreResults((), {}, ())
    advice = recommend(cells, found.resampled, found.comparisons, first)
    advice = replace(advice, of_chosen=any(each.chosen is not None for each in counted.choices))
    # Steps do not repeat what the advice already says about its interval.
    if advice.uncorrected is None:
        steps = explained(steps, [each for score in leading for each in results[score].comparisons])
    return Verdict(
        title=name,
        score=first,
        fit=tuple(fits),
        pareto=tuple(fronts),
        steps=tuple(steps),
        advice=advice,
        caution=Caution.RUNNING_TEXT if score_info(first).running_text else Caution.SAFETY,
        cells=tuple(cell.name for cell in cells),
        sizes=tuple(sizes),
        choices=counted.choices,
    )
