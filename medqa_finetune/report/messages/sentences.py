"""Decides which sentences an outcome has in any language: content, order and numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

from medqa_finetune.config.labels import value_label, with_size
from medqa_finetune.evaluation.metrics.base import Better
from medqa_finetune.report.comparability import Axis, Difference, Fact
from medqa_finetune.report.messages.language import Language, amount_of_hours, amount_of_money, signed, span
from medqa_finetune.report.notes import GroupName, Note
from medqa_finetune.report.recommend import NEGATION
from medqa_finetune.report.scores import score_info, training_items_of
from medqa_finetune.report.stats.choice import Choice, Try, is_number
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval, Settings
from medqa_finetune.report.verdict import (
    Advice,
    AdviceKind,
    Caution,
    Contrast,
    Curve,
    Estimate,
    Fit,
    Front,
    NoFit,
    Refusals,
    SizeAnswer,
    Step,
    Unfinished,
)

DIFFERENCES_SHOWN = 4
LONGEST_VALUE = 100
TRIES_SHOWN = 6
# exp() of anything larger overflows a float.
LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class Overview:
    """How many of the runs are done, and their models and corpora."""

    done: int
    count: int
    models: tuple[str, ...]
    corpora: tuple[str, ...]


Outcome = (
    Advice
    | Choice
    | SizeAnswer
    | Unfinished
    | Fit
    | Front
    | Step
    | Refusals
    | Settings
    | Caution
    | Overview
    | GroupName
    | Note
)


@singledispatch
def say(outcome: object, words: Language) -> str:
    """Return the words of an outcome in one language.

    Raises:
        TypeError: it is not an `Outcome`.
    """
    raise TypeError(f"no sentence for {type(outcome).__name__}")


@say.register
def _(advice: Advice, words: Language) -> str:
    better = score_info(advice.score).better
    # Without a score that has a direction, advice does not mention degrees.
    said = ("more", "most", "over") if better is not Better.NEITHER else ()
    degrees = {degree: words(f"{degree}.{better.name}") for degree in said}
    hours = ""
    if advice.hours is not None:
        taken, best = map(amount_of_hours, advice.hours)
        hours = words("Advice.hours", taken=taken, best=best, machine=words(advice.machine))
    # One cell may be both the best and the least costly.
    is_both = advice.kind is AdviceKind.NONE_SHOWN and advice.best == advice.other
    parts = [
        words(
            "Advice.none_shown_both" if is_both else advice.kind,
            cell=words.name(advice.cell),
            best=words.name(advice.best),
            other=words.name(advice.other),
            lead=_amount(advice.lead, advice.score, words),
            level=words.listed(advice.level),
            score=words.score(advice.score).in_sentence,
            hours=hours,
            **degrees,
        )
    ]
    if advice.kind in (AdviceKind.CHEAPER, AdviceKind.BEST_OF_LEVEL, AdviceKind.BEST_OF_UNTIMED):
        parts.append(words("Advice.not_equal"))
    if advice.beaten:
        parts.append(words("Advice.beaten", cells=words.listed(advice.beaten)))
    if advice.idle:
        parts.append(words("Advice.idle", cells=words.listed(advice.idle)))
    if advice.uncorrected is not None:
        parts.append(words("uncorrected", pairs=advice.uncorrected))
    if advice.unlike:
        parts.append(words("Advice.unlike", cells=words.listed(advice.unlike)))
    parts.append(_differences(advice.differences, words))
    if advice.of_chosen:
        parts.append(words("Advice.of_chosen"))
    if advice.one_seed:
        parts.append(words("Advice.one_seed"))
    return words.joined(parts)


@say.register
def _(answer: SizeAnswer, words: Language) -> str:
    name = words.score(answer.score).in_sentence
    parts = [_between(each, name, words) for each in answer.between]
    for key, over in (("SizeAnswer.over", answer.over), ("SizeAnswer.over_retrieval", answer.over_retrieval)):
        for base in dict.fromkeys(each.first for each in over):
            gains = words.between_differences.join(_gain(each, words) for each in over if each.first == base)
            parts.append(words(key, base=words.name(base), score=name, gains=gains))
    return words("SizeAnswer", size=answer.size, parts=words.joined(parts))


def _between(contrast: Contrast, score: str, words: Language) -> str:
    first, second = words.name(contrast.first), words.name(contrast.second)
    if contrast.gain is None or contrast.interval is None:
        refused = words("SizeAnswer.not_comparable", first=first, second=second)
        return words.joined([refused, _differences(contrast.differences, words)])
    return words(
        "SizeAnswer.between",
        first=first,
        second=second,
        amount=f"{signed(contrast.gain)} {score} {_span(contrast.interval)}",
        finding=_found(contrast, words),
    )


def _found(contrast: Contrast, words: Language) -> str:
    """Return the finding; says so where the interval excludes 0 and no difference is shown after the correction."""
    bound = contrast.interval
    excludes_0 = bound is not None and not bound.low <= 0 <= bound.high
    if contrast.verdict is Finding.NONE_SHOWN and excludes_0:
        return words("SizeAnswer.uncorrected")
    return words(contrast.verdict)


def _gain(contrast: Contrast, words: Language) -> str:
    name = words.name(contrast.second)
    if contrast.gain is None or contrast.interval is None:
        return words("SizeAnswer.gain", cell=name, amount=words(contrast.verdict))
    amount = f"{signed(contrast.gain)} {_span(contrast.interval)}"
    if contrast.verdict is not Finding.DIFFERENT:
        amount = words("SizeAnswer.unsure", amount=amount, finding=_found(contrast, words))
    return words("SizeAnswer.gain", cell=name, amount=amount)


@say.register
def _(choice: Choice, words: Language) -> str:
    settings = words.between_names.join(map(words.setting, choice.keys))
    if choice.chosen is None:
        cells = words.listed([each.cell for each in choice.tries])
        return words("Choice.no_loss", settings=settings, cells=cells)
    measured = sorted((each for each in choice.tries if each.loss is not None), key=lambda each: each.loss or 0.0)
    shown = [_tried(each, words) for each in measured[:TRIES_SHOWN]]
    losses = words.between_differences.join(shown)
    if len(measured) > len(shown):
        losses = words("Choice.more", losses=losses, more=len(measured) - len(shown))
    seeds = min(each.seeds for each in measured) > 1
    parts = [
        words(
            "Choice.seeds" if seeds else "Choice",
            settings=settings,
            cell=words.name(choice.chosen),
            losses=losses,
            count=len(choice.tries),
        )
    ]
    if choice.edge is not None:
        parts.append(words("Choice.edge", setting=words.setting(choice.edge)))
    if len(measured) < len(choice.tries):
        left = [each.cell for each in choice.tries if each.loss is None]
        parts.append(words("Choice.left_out", cells=words.listed(left)))
    return words.joined(parts)


def _tried(each: Try, words: Language) -> str:
    values = " ".join(value_label(float(value)) if is_number(value) else str(value) for value in each.values)  # type: ignore[arg-type]
    spread = "" if each.sd is None else f" ± {each.sd:.3f}"
    return words("Choice.tried", values=values, loss=f"{each.loss:.3f}{spread}")


@say.register
def _(unfinished: Unfinished, words: Language) -> str:
    parts = [words("Unfinished", done=unfinished.done, count=unfinished.count)] if unfinished.runs else []
    parts += [words(state, cells=words.listed(cells)) for state, cells in unfinished.runs.items()]
    if unfinished.missing:
        parts.append(words("Unfinished.missing", cells=words.listed(unfinished.missing)))
    parts.append(words("Unfinished.rest"))
    study = words("Unfinished.study", study=unfinished.study) if unfinished.study else ""
    return study + words.joined(parts)


@say.register
def _(fit: Fit, words: Language) -> str:
    if fit.no_fit is NoFit.ONE_SIZE:
        return words(fit.no_fit, series=words.name(fit.series))
    if fit.no_fit is NoFit.NOT_COMPARABLE:
        first, second = fit.unlike or ("", "")
        head = words(fit.no_fit, series=words.name(fit.series), first=words.name(first), second=words.name(second))
        return words.joined([head, _differences(fit.differences, words)])
    items = words(training_items_of(score_info(fit.score)))
    if fit.model is Curve.POWER_LAW:
        parts = [_power_law(fit, words, items), "" if fit.tested else words("Fit.not_tested")]
    else:
        parts = [_line(fit, words)]
        if fit.without_power_law is not None:
            parts.append(words("Fit.no_power_law", sizes=len(fit.sizes), share=f"{fit.without_power_law:.0%}"))
    size, forecast = fit.forecast
    parts.append(words("Fit.forecast", size=f"{size:,}", items=items, value=_with_span(forecast)))
    return words.joined(parts)


def _power_law(fit: Fit, words: Language, items: str) -> str:
    name = score_info(fit.score)
    score, bound = words.score(fit.score).in_sentence, fit.parameters["exponent"].interval
    return words(
        Curve.POWER_LAW,
        series=words.name(fit.series),
        fitted=words("Fit.logarithm", score=score) if name.per_tokenizer else score,
        offset=f"{fit.parameters['offset'].value:.2f}",
        mark="-" if name.sign > 0 else "+",
        factor=f"{fit.parameters['factor'].value:.3g}",
        items=items,
        exponent=f"{fit.parameters['exponent'].value:.2f}",
        span=span(bound.low, bound.high),
        limit=_with_span(fit.limit) if fit.limit is not None else "",
    )


def _line(fit: Fit, words: Language) -> str:
    name, slope = score_info(fit.score), fit.parameters["per_doubling"]
    if name.per_tokenizer:
        ends = (slope.value, slope.interval.low, slope.interval.high)
        times, low, high = (math.exp(min(end, LARGEST_EXPONENT)) for end in ends)
        change = words("Fit.times", score=words.score(fit.score).in_sentence, times=f"{times:.2f} {span(low, high)}")
    else:
        change = _amount(slope, fit.score, words)
    if fit.change_shown:
        end = words("Fit.line_of_logarithms" if name.per_tokenizer else "Fit.line")
    else:
        end = words("Fit.no_fall" if name.better is Better.LOWER else "Fit.no_growth")
    return words(Curve.LOG_LINEAR, series=words.name(fit.series), change=change, end=end)


@say.register
def _(front: Front, words: Language) -> str:
    best = words.listed([f"{words.name(point.cell)} ({point.share:.0%})" for point in front.points if point.on_front])
    parts = [words("Front", score=words.score(front.score).in_sentence, unit=words(front.unit), cells=best)]
    if front.left_out:
        parts.append(words("Front.left_out", cells=words.listed(front.left_out)))
    return words.joined(parts)


@say.register
def _(step: Step, words: Language) -> str:
    sizes = with_size(words.name(step.series), " → ".join(step.sizes))
    if step.gain is None or step.interval is None or step.p_holm is None:
        return words.joined([words("Step.not_comparable", sizes=sizes), _differences(step.differences, words)])
    price = ""
    if step.hours is not None:
        paid = "" if step.money is None else words("Step.money", money=amount_of_money(step.money))
        price = words("Step.hours", hours=amount_of_hours(step.hours), machine=words(step.machine), money=paid)
    said = words(
        "Step",
        sizes=sizes,
        amount=_amount(Estimate(step.gain, step.interval), step.score, words),
        price=price,
        finding=words(step.verdict),
        p=f"{step.p_holm:.4f}",
    )
    return words.joined([said, "" if step.uncorrected is None else words("uncorrected", pairs=step.uncorrected)])


@say.register
def _(refusals: Refusals, words: Language) -> str:
    first = refusals.first
    return words.joined(
        [
            words(
                "Refusals" if refusals.count > 1 else "Refusals.one",
                count=refusals.count,
                first=words.name(first.first),
                second=words.name(first.second),
            ),
            compared_text(first, words),
            words("Refusals.others") if refusals.count > 1 else "",
        ]
    )


@say.register
def _(settings: Settings, words: Language) -> str:
    return words(
        "Settings",
        level=f"{settings.level:.0%}",
        resamples=f"{settings.resamples:,}",
        trials=f"{settings.trials:,}",
        counts=f"{1 - settings.level:.2g}",
        seed=settings.seed,
    )


@say.register
def _(caution: Caution, words: Language) -> str:
    return words(
        caution,
        answer=NEGATION.answer,
        reference=NEGATION.reference,
        rouge=f"{NEGATION.rouge:.1f}",
        bleu=f"{NEGATION.bleu:.1f}",
    )


@say.register
def _(overview: Overview, words: Language) -> str:
    names = {"models": words.between_names.join(overview.models), "corpora": words.between_names.join(overview.corpora)}
    return words("Overview", done=overview.done, count=overview.count, **names)


@say.register
def _(group: GroupName, words: Language) -> str:
    n = words("GroupName.n", n=f"{group.n:,}")
    test = words("GroupName.test", test=group.test) if group.test else ""
    evaluation = _evaluation(group.evaluation, words)
    return " · ".join(filter(None, (group.study, group.model, group.corpus, n, test, evaluation)))


def _evaluation(shown: str, words: Language) -> str:
    """Return the settings of an evaluation, `evaluate.key=value, …`, by their short names."""
    parts = (part.partition("=") for part in shown.split(", "))
    return ", ".join(f"{words.setting(key)} {value}" if equals else key for key, equals, value in parts)


def compared_text(comparison: Comparison, words: Language) -> str:
    """Return why two cells do not compare, or the basis of the finding; empty if neither cell was trained."""
    if comparison.verdict is Finding.NOT_COMPARABLE:
        return _differences(comparison.differences, words)
    if comparison.seeds is None:
        return ""
    axes = [words(axis) if isinstance(axis, Axis) else axis for axis in comparison.axes]
    several = words("axes.several", axes=" + ".join(axes)) if len(axes) > 1 else ""
    return words.joined([words(comparison.seeds), several])


def _differences(differences: Sequence[Difference], words: Language) -> str:
    """Return the differences of two cells in words; empty without differences."""
    if not differences:
        return ""
    shown = words.between_differences.join(_difference(each, words) for each in differences[:DIFFERENCES_SHOWN])
    count, more = len(differences), len(differences) - DIFFERENCES_SHOWN
    if more > 0:
        return words("differences.more", differences=shown, more=more, count=count)
    return words("differences", differences=shown)


def _difference(difference: Difference, words: Language) -> str:
    name = words(difference.what) if isinstance(difference.what, Fact) else words.setting(difference.what)
    if not difference.first and not difference.second:
        return name
    first, second = (
        " / ".join(_value(value, words) for value in each) for each in (difference.first, difference.second)
    )
    return words("difference", name=name, first=first, second=second)


def _value(value: object, words: Language) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return words("unknown") if value is None else str(value)[:LONGEST_VALUE]


def _amount(estimate: Estimate | None, score: str, words: Language) -> str:
    if estimate is None:
        return ""
    return f"{signed(estimate.value)} {words.score(score).in_sentence} {_span(estimate.interval)}"


def _with_span(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} {_span(estimate.interval)}"


def _span(interval: Interval) -> str:
    return span(interval.low, interval.high)
