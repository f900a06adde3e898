"""The words of the report: every kind of every outcome can be said in every language, and says all that it holds.

Names are Greek letters here, which neither language has in its words.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from string import Formatter
from types import ModuleType
from typing import get_args

import pytest

from medqa_finetune.evaluation.metric_registry import default_scores
from medqa_finetune.report import comparability, messages, notes, scores, verdict
from medqa_finetune.report.comparability import Axis, Difference, Fact
from medqa_finetune.report.messages import (
    LANGUAGES,
    Outcome,
    drawn,
    key_of,
    label,
    labels_below,
    reason,
    score_axis,
    score_title,
    text,
)
from medqa_finetune.report.messages.sentences import Overview, say
from medqa_finetune.report.notes import (
    AnswersOfCells,
    Batches,
    Capped,
    CellsCut,
    Cut,
    CutKind,
    Disturbed,
    Flaw,
    FlawKind,
    GroupName,
    GroupsCut,
    LowestSeed,
    NoAnswers,
    NoPredictions,
    NoStatistics,
    NotMeasured,
    OtherBatches,
    PickedOfMany,
    QuestionsDrawn,
    RunsCut,
    Skipped,
    TextsCut,
    TrainedOnce,
)
from medqa_finetune.report.recommend import NEGATION
from medqa_finetune.report.stats import intervals
from medqa_finetune.report.stats.choice import Choice, Try
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval, SeedBasis, Settings
from medqa_finetune.report.verdict import (
    Advice,
    AdviceKind,
    Caution,
    Contrast,
    Cost,
    Curve,
    Estimate,
    Fit,
    Front,
    Machine,
    NoFit,
    ParetoPoint,
    Refusals,
    RunState,
    SizeAnswer,
    Step,
    Unfinished,
    Unit,
)

REPORT = Path(messages.__file__).parents[1]
CHINESE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
# What Chinese texts write in Latin letters as well: names, units, files and terms.
LATIN = re.compile(
    r"LLaMA-Factory|ROUGE-[12L]|rouge-[12l]|BLEU(-\d)?|bleu-4|Distinct-2|sacrebleu zh|JavaScript|bootstrap|Holm|"
    r"allocated|GPU|CPU|GiB|F1|log|\w+\.(csv|jsonl?)|\b[ntp]\b"
)
PLACES = Formatter()
LEAD = Estimate(1.25, Interval(-0.5, 3.0))
DIFFERENCES = tuple(Difference(fact, (1234, None), ("β", 0.5)) for fact in Fact if fact is not Fact.ANSWERED)
NAMES = ("α1", "α2", "α3", "α4", "α5", "α6", "α7", "α8")


def comparison(finding: Finding, seeds: SeedBasis | None = None, *differences: Difference) -> Comparison:
    axes = (Axis.MODEL, Axis.METHOD, Axis.DATA, "ζ")
    return Comparison("α1", "α2", "bleu", axes, 1.0, LEAD.interval, None, None, 0.1, 0.2, finding, differences, seeds)


def advice() -> Iterator[Advice]:
    whole = Advice(AdviceKind.ONE_CELL, "α1", "rougeL", "α2", "α3", LEAD, NAMES, ("β1",), ("β2",), (0.25, 2.5),
                   Machine.CPU, ("γ1",), DIFFERENCES[:1], 6, one_seed=True, of_chosen=True)  # fmt: skip
    for kind in AdviceKind:
        yield replace(whole, kind=kind)
        yield replace(whole, kind=kind, score="text_perplexity", hours=None)
        yield Advice(kind, "α1", "rougeL", "α2", "α3", LEAD, NAMES[:1])


def fits() -> Iterator[Fit]:
    sizes, curve = (10, 20, 40), ((10.0, 1.0, 0.5, 1.5), (80.0, 3.0, 2.5, 3.5))
    for score in ("rougeL", "text_perplexity"):
        whole = Fit("α", score, ("α1", "α2", "α3"), sizes, (1.0, 2.0, 2.5), curve=curve)
        named = dict.fromkeys(("offset", "factor", "exponent"), LEAD)
        for tested in (True, False):
            yield replace(whole, model=Curve.POWER_LAW, parameters=named, limit=LEAD, tested=tested)
        for slope in (LEAD, Estimate(1.0, Interval(0.5, 1.5))):
            line = replace(whole, model=Curve.LOG_LINEAR, parameters={"offset": LEAD, "per_doubling": slope})
            yield from (line, replace(line, without_power_law=0.25))
        yield replace(whole, no_fit=NoFit.ONE_SIZE)
        yield replace(whole, no_fit=NoFit.NOT_COMPARABLE, unlike=("α1", "α2"), differences=DIFFERENCES)


def steps() -> Iterator[Step]:
    for finding in Finding:
        for machine in Machine:
            whole = Step("α", "α1", "α2", ("1", "2"), "bleu", 1.5, LEAD.interval, 0.25, finding, machine, 1.5, 0.05)
            yield from (whole, replace(whole, money=None, uncorrected=6), replace(whole, hours=None, money=None))
    yield replace(whole, gain=None, interval=None, p_holm=None, differences=DIFFERENCES)


def answers() -> Iterator[Outcome]:
    """What stands first: each size, what was chosen, what is missing."""
    gain = Contrast("α", "β", 1.5, LEAD.interval, Finding.DIFFERENT)
    unsure, refused = replace(gain, verdict=Finding.NONE_SHOWN), Contrast("α", "β", None, None, Finding.NOT_COMPARABLE)
    yield SizeAnswer(
        "300",
        "rougeL",
        (gain, unsure, replace(refused, differences=DIFFERENCES)),
        (gain, unsure, refused),
        (gain, unsure),
    )
    tries = tuple(Try(f"α{n}", (n, "β"), n / 10, 0.1 if n else None, 2) for n in range(8))
    keys = ("train.learning_rate", "method.rank")
    yield from (Choice(keys, tries, "α0"), Choice(keys, tries, "α0", keys[0]))
    yield Choice(keys, (*(replace(each, seeds=1, sd=None) for each in tries), Try("α9", (9, 9), None, None, 1)), "α0")
    yield Choice(keys, (Try("α9", (9, 9), None, None, 1),), None)
    yield Unfinished("α", 1, 9, dict.fromkeys(RunState, NAMES), NAMES)
    yield Unfinished("", 9, 9, {}, NAMES)


def outcomes() -> Iterator[Outcome]:
    yield from advice()
    yield from answers()
    yield from fits()
    yield from steps()
    points = tuple(ParetoPoint(name, 1.0, 2.0, on_front=True, share=0.5) for name in NAMES)
    for unit in Unit:
        yield Front("perplexity", Cost.HOURS, unit, points)
        yield Front("perplexity", Cost.HOURS, unit, points[:1], NAMES)
    refused = comparison(Finding.NOT_COMPARABLE, None, Difference(Fact.ANSWERED))
    yield from (Refusals(1, refused), Refusals(3, refused))
    yield Settings()
    yield from Caution
    yield Overview(1, 2, ("α", "β"), ("γ",))
    group = GroupName("α", "β", "γ", 1000, "12")
    yield from (group, GroupName("", "β", "γ", 1000, ""))
    for kind in FlawKind:
        yield NoStatistics("α", Flaw(kind, "β", 1, 2, "γ", "bleu"))
    yield from (Cut(kind, NAMES, 0.1, high) for kind in CutKind for high in (0.1, 0.625))
    yield from (Disturbed(NAMES, 0.1, high) for high in (0.1, 0.625))
    yield OtherBatches((Batches(16, gradient_checkpointing=False, cells=NAMES), Batches(4, True, NAMES)))
    yield from (Skipped(NAMES, 0.1, high) for high in (0.1, 0.625))
    yield from (NotMeasured("bleu", NAMES), TrainedOnce(NAMES), Capped(33, 32, ("rougeL", "bleu")), PickedOfMany())
    yield from (GroupsCut(6, 7), CellsCut(group, 36, 40), RunsCut(300, 1000), NoAnswers(), NoPredictions("α"))
    yield from (AnswersOfCells(12, 36), LowestSeed(), QuestionsDrawn(1000, 2000), TextsCut(2, 4000))


OUTCOMES = list(outcomes())


def enums(*modules: ModuleType) -> list[type[StrEnum]]:
    """Every enum of the report's outcomes."""
    found = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    return [each for each in found if issubclass(each, StrEnum) and each is not StrEnum]


def foreign(language: str, words: str) -> list[str]:
    """Text of another language in words, without what the caution quotes."""
    for quoted in (NEGATION.answer, NEGATION.reference):
        words = words.replace(quoted, "")
    if language == "zh":
        return re.findall(r"[A-Za-z]+", LATIN.sub("", words))
    return CHINESE.findall(words)


def check(language: str, words: str) -> None:
    """Nothing is left of how the words were put together, and nothing of another language is in them."""
    assert words.strip() == words != ""
    assert not re.findall(
        r"[{}]|\bNone\b(?! of these)|\(\s*\)|（\s*）|  |\(,|, \)|（，|，）| [.,;:]|。。|\.\.", words
    ), words
    assert foreign(language, words) == [], words


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_every_outcome_is_said(language: str) -> None:
    for outcome in OUTCOMES:
        check(language, say(outcome, LANGUAGES[language]))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_of_a_comparison_is_said(language: str) -> None:
    for seeds in SeedBasis:
        check(language, getattr(reason(comparison(Finding.DIFFERENT, seeds)), language))
    for differences in (DIFFERENCES, *((each,) for each in DIFFERENCES), (Difference(Fact.ANSWERED),)):
        check(language, getattr(reason(comparison(Finding.NOT_COMPARABLE, None, *differences)), language))
    assert getattr(reason(comparison(Finding.DIFFERENT)), language) == ""


def test_the_outcomes_above_are_all_there_are() -> None:
    assert {type(each) for each in OUTCOMES} == set(get_args(Outcome))
    with pytest.raises(TypeError, match="no sentence for int"):
        say(1, LANGUAGES["en"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_member_of_an_enum_has_words(language: str) -> None:
    members = [member for each in enums(comparability, notes, scores, intervals, verdict) for member in each]
    assert {*AdviceKind, *Fact, *FlawKind} <= set(members)
    unspoken = {key_of(member) for member in members} - LANGUAGES[language].sentences.keys()
    assert unspoken == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_are_of_their_language(language: str) -> None:
    for key, words in LANGUAGES[language].sentences.items():
        assert words, key
        assert foreign(language, re.sub(r"{\w+}", "", words)) == [], key
    for score in default_scores():
        assert foreign(language, "".join(score.words_in(language))) == []


def test_languages_have_the_same_words_with_the_same_places() -> None:
    english, chinese = (LANGUAGES[language].sentences for language in ("en", "zh"))
    assert english.keys() == chinese.keys()
    # In Chinese a list of names ends with how many there are, and a difference has no preposition.
    other = {"names.more", "differences.more", "Curve.POWER_LAW", "AdviceKind.BEST_OF_ALL",
             "AdviceKind.BEST_BEFORE_CORRECTION"}  # fmt: skip
    assert {key for key in english if _places(english[key]) != _places(chinese[key])} == other
    assert all(score.words.keys() == LANGUAGES.keys() for score in default_scores())


def _places(words: str) -> set[str]:
    return {name for _, name, _, _ in PLACES.parse(words) if name}


def test_every_label_of_code_and_templates_exists() -> None:
    files = [*REPORT.rglob("*.py"), *REPORT.rglob("*.j2")]
    used = {key for path in files for key in re.findall(r'\blabel\("([^"]+)"', path.read_text(encoding="utf-8"))}
    sentences = LANGUAGES["en"].sentences
    assert {key for key in sentences if key.startswith("page.")} <= used <= sentences.keys()
    scripts = "".join(path.read_text(encoding="utf-8") for path in REPORT.rglob("*.js"))
    assert all(f'"{key}"' in scripts for key in labels_below("script.")["en"])


def test_each_language_takes_its_own_of_a_pair() -> None:
    said = label("chart.heat", score=score_title("leaked_tokens"))
    assert score_title("leaked_tokens").en in said.en
    assert score_title("leaked_tokens").zh in said.zh
    assert (score_title("unheard_of").en, score_axis("unheard_of").zh) == ("unheard_of", "unheard_of")


def test_what_a_chart_draws_has_chinese_words() -> None:
    for words in ("Training pairs", "not measured", score_axis("perplexity").en, *Unit):
        both = drawn(words)
        assert both is not None
        assert both.en == words
        assert foreign("zh", both.zh) == []
    assert drawn("lora 20k") is None


def test_numbers_and_names_of_an_outcome_are_in_its_sentences() -> None:
    """One of each kind of number: differences with a sign, intervals, shares, counts, hours and money."""
    found = text(Advice(AdviceKind.CHEAPER, "α1", "rougeL", "α2", "α1", LEAD, hours=(0.123, 2.5), uncorrected=6))
    step = text(next(steps()))
    front = text(Front("bleu", Cost.HOURS, Unit.VRAM, (ParetoPoint("α1", 1.0, 2.0, on_front=True, share=0.875),)))
    fit = text(next(fits()))
    for words, parts in (
        (found, ("α1", "α2", "+1.25 ROUGE-L [-0.50, 3.00]", "0.12 / 2.5", "6")),
        (step, ("α 1 → 2", "+1.50 BLEU [-0.50, 3.00]", "1.5", "0.05", "p = 0.2500")),
        (front, ("α1 (88%)",)),
        (fit, ("80", "3.00 [2.50, 3.50]", "1.25 [-0.50, 3.00]")),
        (text(TextsCut(2, 4000)), ("2", "4,000")),
    ):
        for part in parts:
            assert part in words.en
            assert part in words.zh


@pytest.mark.parametrize(("score", "way", "mark"), [("rougeL", "HIGHER", "-"), ("text_perplexity", "LOWER", "+")])
def test_which_way_is_better_is_that_of_the_score(score: str, way: str, mark: str) -> None:
    """What rises to its limit lies below it, what falls above; a perplexity is fitted by its logarithm."""
    advised = text(Advice(AdviceKind.BEST_OF_ALL, "α1", score, "α1", "α2", LEAD))
    fit = text(next(fit for fit in fits() if fit.score == score and fit.model is Curve.POWER_LAW))
    fitted = label("Fit.logarithm", score="").en if way == "LOWER" else ""
    for language in LANGUAGES:
        assert getattr(label(f"more.{way}"), language) in getattr(advised, language)
        assert f"1.25 {mark} 1.25" in getattr(fit, language)
        assert f"{fitted}{LANGUAGES[language].score(score).in_sentence} = 1.25" in getattr(fit, language)


def test_lists_of_names_are_cut() -> None:
    assert "α1, α2, α3, α4, α5, α6 and 2 more." in text(TrainedOnce(NAMES)).en
    assert "α1、α2、α3、α4、α5、α6 等 8 个" in text(TrainedOnce(NAMES)).zh


def test_evaluation_of_a_group_has_short_names_of_its_settings() -> None:
    said = text(GroupName("", "β", "γ", 10, "", "evaluate.max_new_tokens=64, evaluate.max_samples=9"))
    assert said.en.endswith("max new tokens 64, max samples 9")
    assert said.zh.endswith("生成上限 64, 题数上限 9")


def test_every_state_of_a_run_has_words() -> None:
    assert all(label(f"status.{state}").zh for state in ("DONE", *RunState.__members__))


@pytest.mark.parametrize(
    ("words", "chinese"),
    [("LoRA n300 lr 1e-4", None), ("lr", "学习率"), ("retrieval lr 1e-4", "检索基线 lr 1e-4")],
)
def test_drawn_names_do_not_outgrow_their_room(words: str, chinese: str | None) -> None:
    both = drawn(words)
    assert (both and both.zh) == chinese
