"""What a score costs: the cells that nothing beats for the price, and what each step up in data buys."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from medqa_finetune.report.cells import Cell
from medqa_finetune.report.fairness import signatures_of, unfair_costs
from medqa_finetune.report.fit import series_of
from medqa_finetune.report.scores import score_name, title
from medqa_finetune.report.statistics import Comparison, Drawn, Settings, mean_draws
from medqa_finetune.report.verdict import Front, ParetoPoint, Step
from medqa_finetune.report.words import Text, listed, signed, span


def fronts_of(cells: Sequence[Cell], drawn: dict[str, Drawn], score: str, settings: Settings) -> list[Front]:
    """Return the fronts of one score against hours, memory and, with a price, money; none where nothing was trained."""
    having = [cell for cell in cells if cell.name in drawn]
    trained = [cell for cell in having if cell.trains]
    if not trained:
        return []
    like = trained[0]
    alike = [cell for cell in having if _comparable(like, cell, score)]
    left_out = [cell.name for cell in having if cell not in alike]
    hours, memory = f"{machine(like)}-hours", "GiB VRAM" if like.vram_gib is not None else "GiB RSS"
    costs: list[tuple[str, str, dict[str, float | None]]] = [
        ("hours", hours, {cell.name: cell.hours for cell in alike}),
        ("memory", memory, {c.name: c.vram_gib if like.vram_gib is not None else c.rss_gib for c in alike if c.trains}),
    ]
    price = settings.price_per_hour
    if price is not None:
        costs.append(("money", "money", {c.name: None if c.hours is None else c.hours * price for c in alike}))
    return [_front((score, cost, unit), known, drawn, left_out, settings) for cost, unit, known in costs]


def steps_of(cells: Sequence[Cell], comparisons: Sequence[Comparison], score: str, settings: Settings) -> list[Step]:
    """Return every step from one data size to the next, for one score."""
    found = {frozenset((each.first, each.second)): each for each in comparisons if each.score == score}
    steps = []
    for series, group in series_of(cells).items():
        for first, second in pairwise(group):
            comparison = found.get(frozenset((first.name, second.name)))
            if comparison is not None:
                steps.append(_step(series, (first, second), comparison, settings))
    return steps


def uncorrected(comparisons: Sequence[Comparison], score: str) -> Text:
    """Return what an interval that leaves out 0 is beside the words that no difference was shown."""
    pairs = sum(each.score == score and each.p_holm is not None for each in comparisons)
    return Text(
        "(An interval that leaves out 0 where no difference is shown is of that difference alone, before the "
        f"correction for all {pairs} pairs.)",
        f"（未显示出差异而区间不含 0：区间只针对这一差异，未经全部 {pairs} 对的校正。）",
    )


def explained(steps: Sequence[Step], comparisons: Sequence[Comparison]) -> list[Step]:
    """Return the steps; the first that shows no difference though its interval leaves out 0 says why."""
    told = list(steps)
    for place, step in enumerate(told):
        bound = step.interval
        if step.verdict == "no difference shown" and bound is not None and not bound.low <= 0 <= bound.high:
            told[place] = replace(step, text=step.text + uncorrected(comparisons, step.score))
            break
    return told


def machine(cell: Cell) -> str:
    """Return what an hour of a cell's training is an hour of."""
    return "GPU" if cell.vram_gib is not None else "CPU"


def _comparable(like: Cell, cell: Cell, score: str) -> bool:
    tests = [record.data_manifest.test.sha256 if record.data_manifest else None for record in (like.first, cell.first)]
    same = tests[0] == tests[1] and like.n == cell.n and signatures_of(like, score) == signatures_of(cell, score)
    return same and not (cell.trains and unfair_costs(like, cell))


def _front(
    what: tuple[str, str, str],
    costs: dict[str, float | None],
    drawn: dict[str, Drawn],
    left_out: Sequence[str],
    settings: Settings,
) -> Front:
    score, cost, unit = what
    names = [name for name, value in sorted(costs.items(), key=lambda item: item[1] or 0.0) if value is not None]
    prices = np.array([costs[name] or 0.0 for name in names])
    values = np.array([drawn[name].value for name in names])
    draws = np.array([mean_draws(drawn[name], settings) for name in names])
    sign = score_name(score).sign
    front = undominated(prices, sign * values[:, None])[:, 0]
    shares = undominated(prices, sign * draws).mean(axis=1)
    points = tuple(
        ParetoPoint(name, float(price), float(value), bool(on), float(share))
        for name, price, value, on, share in zip(names, prices, values, front, shares, strict=True)
    )
    best = listed([f"{p.cell} ({p.share:.0%})" for p in points if p.on_front])
    text = Text(
        f"{title(score)} against {unit}: nothing beats {best.en or '-'} (share of resamples in which that is so).",
        f"{title(score)} 对 {_unit_zh(unit)}：不被别格超过的是 {best.zh or '-'}（括号内：成立的重抽样比例）。",
    )
    if left_out:
        rest = listed(list(left_out))
        text += Text(
            f"Left out, for test set, signature, device or batch differ: {rest.en}.",
            f"未计入（测试集、评分签名、设备或批次不同）：{rest.zh}。",
        )
    return Front(score, cost, unit, points, text)  # type: ignore[arg-type]


def undominated(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Say which points no other beats: at least as much score for at most the cost, and better in one.

    Args:
        costs: Shape (k,).
        scores: Shape (k, m): m sets of scores.

    Returns:
        Shape (k, m).
    """
    beaten = np.zeros(scores.shape, dtype=bool)
    for place, cost in enumerate(costs):
        cheaper, as_cheap = costs < cost, costs <= cost
        beaten[place] = (scores[cheaper] >= scores[place]).any(axis=0) | (scores[as_cheap] > scores[place]).any(axis=0)
    return ~beaten


def _step(series: str, cells: tuple[Cell, Cell], comparison: Comparison, settings: Settings) -> Step:
    first, second = cells
    sign = 1 if comparison.first == first.name else -1
    known = not unfair_costs(first, second) and first.hours is not None and second.hours is not None
    hours = (second.hours or 0.0) - (first.hours or 0.0) if known else None
    money = hours * settings.price_per_hour if hours is not None and settings.price_per_hour is not None else None
    gain, bound = comparison.difference, comparison.interval
    interval = bound if bound is None or sign == 1 else type(bound)(-bound.high, -bound.low)
    gain = None if gain is None else sign * gain
    sizes = f"{series} {first.first.data} → {second.first.data}"
    if gain is None or interval is None:
        text = Text(f"{sizes}: not comparable.", f"{sizes}：不可比。") + comparison.reason
    else:
        amount = f"{signed(gain)} {title(comparison.score)} {span(interval.low, interval.high)}"
        price, p = _price(hours, money, machine(first)), f"p = {comparison.p_holm:.4f}"
        text = Text(
            f"{sizes}: {amount}{price.en}; {comparison.verdict} ({p} after Holm).",
            f"{sizes}：{amount}{price.zh}；{VERDICTS_ZH[comparison.verdict]}（Holm 校正后 {p}）。",
        )
    return Step(
        series=series, first=first.name, second=second.name, score=comparison.score, gain=gain, interval=interval,
        p_holm=comparison.p_holm, verdict=comparison.verdict, hours=hours, money=money, text=text,
    )  # fmt: skip


VERDICTS_ZH = {"different": "有差异", "no difference shown": "未显示出差异", "not comparable": "不可比"}


def amount_of_hours(hours: float) -> str:
    """Return hours with two significant digits."""
    return f"{hours:.1f}" if abs(hours) >= 1 else f"{hours:.2g}"


def _price(hours: float | None, money: float | None, machine_name: str) -> Text:
    if hours is None:
        return Text("", "")
    time = amount_of_hours(hours)
    paid = Text("", "")
    if money is not None:
        # Runs of minutes cost less than a cent, which is not nothing.
        amount = f"{money:.2f}" if abs(money) >= 1 else f"{money:.2g}"
        paid = Text(f" (price {amount})", f"（费用 {amount}）")
    return Text(f" for {time} {machine_name}-hours more{paid.en}", f"，多用 {time} {machine_name} 小时{paid.zh}")


def _unit_zh(unit: str) -> str:
    return (
        unit.replace("-hours", " 小时")
        .replace("money", "费用")
        .replace("GiB VRAM", "显存 (GiB)")
        .replace("GiB RSS", "内存 (GiB)")
    )
