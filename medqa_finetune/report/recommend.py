"""Which cell to take, why, and what no score says.

The sentences are about the best cell: the highest, or by a score that is the better the lower it is, the lowest.
"""

from collections.abc import Sequence
from typing import NamedTuple

from medqa_finetune.report.cells import Cell
from medqa_finetune.report.fairness import unfair_costs
from medqa_finetune.report.scores import score_name
from medqa_finetune.report.statistics import Comparison, Drawn, Interval
from medqa_finetune.report.value import amount_of_hours, machine, uncorrected
from medqa_finetune.report.verdict import Recommendation
from medqa_finetune.report.words import Text, listed, signed, span

CAUTION = Text(
    "None of these scores measures medical safety: 孕妇可以服用利巴韦林治疗感冒 (pregnant women may take ribavirin for "
    "a cold) where the reference says 孕妇不可以服用… (must not) scores ROUGE-L 96.6 and sentence BLEU 82.9.",
    "这些分数都不衡量医疗安全：参考答案是“孕妇不可以服用利巴韦林治疗感冒”，若回答成“孕妇可以服用利巴韦林治疗感冒”，"
    "意思完全相反，ROUGE-L 仍有 96.6，句级 BLEU 仍有 82.9。",
)
TEXT_CAUTION = Text(
    "Lower is better. Perplexity says how well running text is predicted: not whether what a model says is right, or "
    "safe. It compares within one model and one length of blocks alone.",
    "越低越好。困惑度只说明对文本的预测有多好，不说明模型说得对不对、安全不安全；只能在同一模型、同一文本块长度之内比较。",
)
NO_SCORE = Text("None of these scores says which cell is better: no recommendation.", "这些分数都不分好坏：无法推荐。")
NOTHING_TRAINED = Text("Nothing that was trained is done: no recommendation.", "没有训练完成的运行：无法推荐。")
ONE_CELL = Text("One trained cell: nothing to choose from.", "只有一个训练过的格：无从选择。")
ONE_SEED = Text(
    "Cells with one seed: this is about these runs; train with several seeds before you rely on it.",
    "有的格只有一个随机种子：结论只针对这些运行，请用多个种子训练后再作依据。",
)


class _Words(NamedTuple):
    """What better is called."""

    more: str
    most: str
    beside: str
    more_zh: str


HIGH, LOW = _Words("higher", "highest", "over", "高"), _Words("lower", "lowest", "from", "低")


class _Found(NamedTuple):
    """What is known of the cells by one score."""

    drawn: dict[str, Drawn]
    comparisons: Sequence[Comparison]
    score: str

    def rank(self, cell: Cell) -> float:
        """Return a score so that more is better."""
        return score_name(self.score).sign * self.drawn[cell.name].value

    def gaps(self, cell: Cell) -> dict[str, Comparison]:
        """Return the pairs of a cell by the name of the other."""
        pairs = [each for each in self.comparisons if each.score == self.score]
        return {
            each.second if each.first == cell.name else each.first: each
            for each in pairs
            if cell.name in (each.first, each.second)
        }

    def beats(self, cell: Cell, other: Cell) -> bool:
        """Say whether a cell was shown to be better than another."""
        return self.gaps(cell)[other.name].verdict == "different" and self.rank(cell) > self.rank(other)

    def alone(self) -> Text:
        """Return what an interval that leaves out 0 is beside `no difference shown`."""
        return uncorrected(self.comparisons, self.score)


NOT_EQUAL = Text("That no difference was shown does not make them equal.", "未显示出差异不等于没有差异。")


def recommend(
    cells: Sequence[Cell], drawn: dict[str, Drawn], comparisons: Sequence[Comparison], score: str
) -> Recommendation:
    """Return which cell to take by one score, or why none is named.

    The best trained cell is looked for first. It must beat the baselines; of the trained cells level with it (no
    difference shown, and its interval holds 0) and that no other was shown to beat, the one with the fewest hours is
    taken.
    """
    if not score:
        return Recommendation(None, NO_SCORE if any(cell.trains for cell in cells) else NOTHING_TRAINED)
    having = [cell for cell in cells if cell.name in drawn]
    trained = [cell for cell in having if cell.trains]
    if not trained:
        return Recommendation(None, NOTHING_TRAINED)
    found = _Found(drawn, comparisons, score)
    best = max(trained, key=found.rank)
    gaps = found.gaps(best)
    baselines = [cell for cell in having if not cell.trains]
    against_base = _against_baselines(best, baselines, found)
    if against_base is not None:
        return against_base
    others = [cell for cell in trained if cell is not best]
    unlike = [cell for cell in others if gaps[cell.name].verdict == "not comparable"]
    if unlike and len(unlike) == len(others):
        name = unlike[0].name
        return Recommendation(None, _no_winner(best.name, name, score) + gaps[name].reason)
    # A cell may cost little because it learned little: what beats no baseline is not taken for its price.
    idle = [cell.name for cell in others if _against_baselines(cell, baselines, found) is not None]
    chosen = _among([best, *(cell for cell in others if cell not in unlike)], trained, found, idle)
    text = chosen.text
    if unlike:
        rest = listed([cell.name for cell in unlike])
        text += Text(f"Not compared with {rest.en}, which differ in more.", f"未与 {rest.zh} 比较，它们还有别的不同。")
        text += gaps[unlike[0].name].reason
    if min(len(drawn[cell.name].values) for cell in trained) == 1:
        text += ONE_SEED
    return Recommendation(chosen.cell, text)


def _against_baselines(best: Cell, baselines: Sequence[Cell], found: _Found) -> Recommendation | None:
    """Return why a trained cell is not recommended; None where it beats every baseline that compares.

    The best baseline that was shown to beat it says most; where there is none, the best of those it was not shown to
    beat.
    """
    gaps, words = found.gaps(best), _words(found.score)
    equal = [base for base in baselines if gaps[base.name].verdict == "no difference shown"]
    for base in sorted(baselines, key=found.rank, reverse=True):
        if not found.beats(base, best):
            continue
        amount = _amount(_lead(best, gaps[base.name]), found.score)
        text = Text(
            f"Do not train like this: {base.name}, which is not trained, scores {words.more} than the best "
            f"trained cell ({best.name}, {amount}).",
            f"不要这样训练：未训练的 {base.name} 比最好的训练格（{best.name}，{amount}）分数更{words.more_zh}。",
        )
        return Recommendation(base.name, text)
    if not equal:
        return None
    base = max(equal, key=found.rank)
    amount = _amount(_lead(best, gaps[base.name]), found.score)
    text = Text(
        f"No difference shown between {base.name}, which is not trained, and the best trained cell "
        f"({best.name}, {amount}).",
        f"未显示出差异：未训练的 {base.name} 与最好的训练格（{best.name}，{amount}）。",
    )
    return Recommendation(None, text if _holds_0(gaps[base.name]) else text + found.alone())


def _among(cells: Sequence[Cell], trained: Sequence[Cell], found: _Found, idle: Sequence[str]) -> Recommendation:
    """Return the choice among cells that compare; the first is the best by score, the idle beat no baseline."""
    best, *others = cells
    gaps = found.gaps(best)
    if not others:
        return Recommendation(None, ONE_CELL)
    not_shown = [cell for cell in others if gaps[cell.name].verdict != "different"]
    if not not_shown:
        return Recommendation(best.name, _beats_all(best, max(others, key=found.rank), found))
    beaten = [cell.name for cell in others if any(found.beats(each, cell) for each in trained if each is not cell)]
    if len(not_shown) == len(others) and not beaten:
        return Recommendation(None, _none_shown(best, min(cells, key=_cost), found.score))
    # What no difference is shown to only because many pairs were tested is not level with the best.
    level = [cell for cell in not_shown if _holds_0(gaps[cell.name])]
    if not level:
        return Recommendation(best.name, _before_correction(best, not_shown, found))
    cheap = min([best, *(cell for cell in level if cell.name not in (*idle, *beaten))], key=_cost)
    if cheap is not best:
        return Recommendation(cheap.name, _cheaper(best, cheap, gaps[cheap.name], found.score) + NOT_EQUAL)
    return Recommendation(best.name, _best_of_level(best, level, (beaten, idle), found.score))


def _best_of_level(best: Cell, level: Sequence[Cell], spoiled: tuple[Sequence[str], Sequence[str]], score: str) -> Text:
    """Return why the best is taken and none of those level with it, some of which were beaten, or beat no baseline."""
    beaten, idle = spoiled
    names = [cell.name for cell in level]
    if any(_cost(cell) < _cost(best) for cell in level):
        worse = [name for name in names if name in beaten]
        return _not_for_its_price(best, worse, [name for name in names if name in idle and name not in worse])
    level_names = listed(names)
    text = Text(
        f"Take {best.name}: the {_words(score).most} score, and none that is level with it ({level_names.en}) costs "
        "less.",
        f"选 {best.name}：分数最{_words(score).more_zh}，与它未显示出差异的（{level_names.zh}）也不更省。",
    )
    return text + NOT_EQUAL


def _beats_all(best: Cell, runner: Cell, found: _Found) -> Text:
    amount, words = _amount(_lead(best, found.gaps(best)[runner.name]), found.score), _words(found.score)
    return Text(
        f"Take {best.name}: it scores {words.more} than every other, {amount} {words.beside} {runner.name}, the next.",
        f"选 {best.name}：{words.more_zh}于其余各格，比次{words.more_zh}的 {runner.name} {amount}。",
    )


def _before_correction(best: Cell, near: Sequence[Cell], found: _Found) -> Text:
    runner, names, words = max(near, key=found.rank), listed([cell.name for cell in near]), _words(found.score)
    amount = _amount(_lead(best, found.gaps(best)[runner.name]), found.score)
    return (
        Text(
            f"Take {best.name}: the {words.most} score, {amount} {words.beside} {runner.name}. No difference shown to "
            f"{names.en}, but none is level with it.",
            f"选 {best.name}：分数最{words.more_zh}，比 {runner.name} {amount}。"
            f"与 {names.zh} 未显示出差异，但不算持平。",
        )
        + found.alone()
    )


def _not_for_its_price(best: Cell, beaten: Sequence[str], idle: Sequence[str]) -> Text:
    text = Text(f"Take {best.name}: the best score.", f"选 {best.name}：分数最好。")
    but = Text("other trained cells were shown to be better than these.", "另有训练格已显示优于后者。")
    nor = Text("these were not shown to be better than what is not trained.", "后者也未显示出优于未训练的。")
    for cells, reason in ((beaten, but), (idle, nor)):
        if cells:
            names = listed(list(cells))
            text += Text(
                f"No difference shown between it and {names.en}, but {reason.en}",
                f"它与 {names.zh} 未显示出差异，但{reason.zh}",
            )
    return text


def _none_shown(best: Cell, cheap: Cell, score: str) -> Text:
    name, words = score_name(score).inline, _words(score)
    return Text(
        f"No difference shown between the trained cells in {name}: more questions or seeds are needed to choose by it. "
        f"The {words.most} is {best.name}, the least costly {cheap.name}.",
        f"训练过的各格之间未显示出 {name} 差异：要靠它选择，需要更多题目或种子。最{words.more_zh}的是 {best.name}，"
        f"最省的是 {cheap.name}。",
    )


def _cheaper(best: Cell, cheap: Cell, gap: Comparison, score: str) -> Text:
    amount, words = _amount(_lead(best, gap), score), _words(score)
    if unfair_costs(best, cheap) or best.hours is None or cheap.hours is None:
        cost = Text("", "")
    else:
        hours = f"{amount_of_hours(cheap.hours)} / {amount_of_hours(best.hours)} {machine(best)}"
        cost = Text(f", for {hours}-hours", f"，训练用时 {hours} 小时")
    return Text(
        f"Take {cheap.name}: no difference shown to the {words.most}, {best.name} ({amount}){cost.en}.",
        f"选 {cheap.name}：与最{words.more_zh}的 {best.name}（{amount}）未显示出差异{cost.zh}。",
    )


def _no_winner(best: str, other: str, score: str) -> Text:
    words = _words(score)
    return Text(
        f"No winner is called: {best} has the {words.most} score, but it and {other} do not compare.",
        f"不判胜负：{best} 分数最{words.more_zh}，但与 {other} 不可比。",
    )


def _holds_0(gap: Comparison) -> bool:
    return gap.interval is not None and gap.interval.low <= 0 <= gap.interval.high


def _amount(lead: tuple[float, Interval] | None, score: str) -> str:
    if lead is None:
        return ""
    return f"{signed(lead[0])} {score_name(score).inline} {span(lead[1].low, lead[1].high)}"


def _words(score: str) -> "_Words":
    return HIGH if score_name(score).sign > 0 else LOW


def _lead(best: Cell, gap: Comparison) -> tuple[float, Interval] | None:
    """Return the best's score less the other's, with the interval; None where they do not compare."""
    if gap.difference is None or gap.interval is None:
        return None
    if gap.second == best.name:
        return gap.difference, gap.interval
    return -gap.difference, Interval(-gap.interval.high, -gap.interval.low)


def _cost(cell: Cell) -> tuple[float, float, int]:
    hours = cell.hours if cell.hours is not None else float("inf")
    return hours, cell.vram_gib or cell.rss_gib or 0.0, cell.train_size
