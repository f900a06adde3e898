"""Recommends a cell, with reasons and cautions.

The best cell has the highest score, or the lowest if lower is better.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from medqa_finetune.report.comparability import unfair_times
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval, Resampled
from medqa_finetune.report.stats.pareto import machine_of, pairs_tested
from medqa_finetune.report.verdict import Advice, AdviceKind, Estimate


@dataclass(frozen=True)
class Negation:
    """A prediction that contradicts its reference, and the high scores it gets.

    Attributes:
        rouge: ROUGE-L, rounded to a tenth.
        bleu: Sentence BLEU, rounded to a tenth.
    """

    answer: str
    reference: str
    rouge: float
    bleu: float


# Used in the caution that no score measures medical safety; a test checks its scores.
NEGATION = Negation("孕妇可以服用利巴韦林治疗感冒", "孕妇不可以服用利巴韦林治疗感冒", 96.6, 82.9)


class _Found(NamedTuple):
    """Values and comparisons of cells by one score."""

    resampled: dict[str, Resampled]
    comparisons: Sequence[Comparison]
    score: str

    def rank(self, cell: Cell) -> float:
        """Return the score, signed so that higher is better."""
        return score_info(self.score).sign * self.resampled[cell.name].value

    def gaps(self, cell: Cell) -> dict[str, Comparison]:
        """Return a cell's comparisons by the name of the other cell."""
        pairs = [each for each in self.comparisons if each.score == self.score]
        return {
            each.second if each.first == cell.name else each.first: each
            for each in pairs
            if cell.name in (each.first, each.second)
        }

    def beats(self, cell: Cell, other: Cell) -> bool:
        different = self.gaps(cell)[other.name].verdict is Finding.DIFFERENT
        return different and self.rank(cell) > self.rank(other)

    def held_against(self, kind: AdviceKind, best: Cell, other: Cell) -> Advice:
        """Return advice that names no cell, with the difference between the best cell and another."""
        lead = _lead(best, self.gaps(best)[other.name])
        return Advice(kind, score=self.score, best=best.name, other=other.name, lead=lead)

    def pairs_tested(self) -> int:
        return pairs_tested(self.comparisons, self.score)


def recommend(
    cells: Sequence[Cell], resampled: dict[str, Resampled], comparisons: Sequence[Comparison], score: str
) -> Advice:
    """Return which cell to take by one score, or why none is recommended.

    The best trained cell must beat the baselines. Of the trained cells level with it (no significant difference, and an
    interval that contains 0) and not significantly worse than any other, the one with the fewest training hours is
    recommended; the best itself where their times do not compare.
    """
    if not score:
        return Advice(AdviceKind.NO_SCORE if any(cell.trains for cell in cells) else AdviceKind.NOTHING_TRAINED)
    having = [cell for cell in cells if cell.name in resampled]
    trained = [cell for cell in having if cell.trains]
    if not trained:
        return Advice(AdviceKind.NOTHING_TRAINED)
    found = _Found(resampled, comparisons, score)
    best = max(trained, key=found.rank)
    gaps = found.gaps(best)
    baselines = [cell for cell in having if not cell.trains]
    against_base = _against_baselines(best, baselines, found)
    if against_base is not None:
        return against_base
    others = [cell for cell in trained if cell is not best]
    unlike = [cell for cell in others if gaps[cell.name].verdict is Finding.NOT_COMPARABLE]
    if unlike and len(unlike) == len(others):
        refused = found.held_against(AdviceKind.NOT_COMPARABLE, best, unlike[0])
        return replace(refused, differences=gaps[unlike[0].name].differences)
    # A cell may be cheap because it learned little, so one that beats no baseline is not taken for its price.
    idle = [cell.name for cell in others if _against_baselines(cell, baselines, found) is not None]
    chosen = _among([best, *(cell for cell in others if cell not in unlike)], trained, found, idle)
    return replace(
        chosen,
        unlike=tuple(cell.name for cell in unlike),
        differences=gaps[unlike[0].name].differences if unlike else (),
        one_seed=min(len(resampled[cell.name].values) for cell in trained) == 1,
    )


def _against_baselines(best: Cell, baselines: Sequence[Cell], found: _Found) -> Advice | None:
    """Return why a trained cell is not recommended; None if it beats every comparable baseline.

    Names the best baseline that significantly beats it, else the best of those that it does not significantly beat.
    """
    gaps = found.gaps(best)
    for base in sorted(baselines, key=found.rank, reverse=True):
        if found.beats(base, best):
            return replace(found.held_against(AdviceKind.BASELINE_WINS, best, base), cell=base.name)
    equal = [base for base in baselines if gaps[base.name].verdict is Finding.NONE_SHOWN]
    if not equal:
        return None
    base = max(equal, key=found.rank)
    pairs = found.pairs_tested() if gaps[base.name].leaves_out_0 else None
    return replace(found.held_against(AdviceKind.NO_DIFFERENCE_TO_BASELINE, best, base), uncorrected=pairs)


def _among(cells: Sequence[Cell], trained: Sequence[Cell], found: _Found, idle: Sequence[str]) -> Advice:
    """Choose among comparable cells; the first is the best by score, `idle` cells beat no baseline."""
    best, *others = cells
    gaps = found.gaps(best)
    if not others:
        return Advice(AdviceKind.ONE_CELL, score=found.score, best=best.name)
    not_shown = [cell for cell in others if gaps[cell.name].verdict is not Finding.DIFFERENT]
    if not not_shown:
        runner = max(others, key=found.rank)
        return replace(found.held_against(AdviceKind.BEST_OF_ALL, best, runner), cell=best.name)
    beaten = [cell.name for cell in others if any(found.beats(each, cell) for each in trained if each is not cell)]
    if len(not_shown) == len(others) and not beaten:
        cheapest = min(cells, key=_cost)
        return Advice(AdviceKind.NONE_SHOWN, score=found.score, best=best.name, other=cheapest.name)
    # Cells that differ before, but not after, the correction for many pairs are not level with the best.
    level = [cell for cell in not_shown if not gaps[cell.name].leaves_out_0]
    if not level:
        runner = max(not_shown, key=found.rank)
        return replace(
            found.held_against(AdviceKind.BEST_BEFORE_CORRECTION, best, runner),
            cell=best.name,
            level=tuple(cell.name for cell in not_shown),
            uncorrected=found.pairs_tested(),
        )
    return _of_level(best, level, (beaten, idle), found)


def _of_level(best: Cell, level: Sequence[Cell], spoiled: tuple[Sequence[str], Sequence[str]], found: _Found) -> Advice:
    """Choose among the best cell and those level with it; `spoiled` ones were beaten, or beat no baseline."""
    beaten, idle = spoiled
    names = tuple(cell.name for cell in level)
    if any(unfair_times(best, cell) for cell in level):
        return Advice(AdviceKind.BEST_OF_UNTIMED, cell=best.name, score=found.score, best=best.name, level=names)
    cheap = min([best, *(cell for cell in level if cell.name not in (*idle, *beaten))], key=_cost)
    if cheap is not best:
        return _cheaper(best, cheap, found)
    if any(_cost(cell) < _cost(best) for cell in level):
        worse = tuple(cell.name for cell in level if cell.name in beaten)
        rest = tuple(cell.name for cell in level if cell.name in idle and cell.name not in worse)
        return Advice(
            AdviceKind.BEST_OF_SPOILED, cell=best.name, score=found.score, best=best.name, beaten=worse, idle=rest
        )
    return Advice(AdviceKind.BEST_OF_LEVEL, cell=best.name, score=found.score, best=best.name, level=names)


def _cheaper(best: Cell, cheap: Cell, found: _Found) -> Advice:
    known = best.hours is not None and cheap.hours is not None
    return replace(
        found.held_against(AdviceKind.CHEAPER, best, cheap),
        cell=cheap.name,
        hours=(cheap.hours or 0.0, best.hours or 0.0) if known else None,
        machine=machine_of(best),
    )


def _lead(best: Cell, gap: Comparison) -> Estimate | None:
    """Return the best's score minus the other's, with the interval; None if they are not comparable."""
    if gap.difference is None or gap.interval is None:
        return None
    if gap.second == best.name:
        return Estimate(gap.difference, gap.interval)
    return Estimate(-gap.difference, Interval(-gap.interval.high, -gap.interval.low))


def _cost(cell: Cell) -> tuple[float, float, int]:
    hours = cell.hours if cell.hours is not None else float("inf")
    return hours, cell.vram_gib or cell.rss_gib or 0.0, cell.train_size
