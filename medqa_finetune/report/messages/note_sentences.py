"""Sentences of the notes: what a report left out, capped or could not read."""

from medqa_finetune.report.messages.language import Language
from medqa_finetune.report.messages.sentences import say
from medqa_finetune.report.notes import (
    AnswersOfCells,
    Capped,
    CellsCut,
    Cut,
    Disturbed,
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


@say.register
def _(note: NoStatistics, words: Language) -> str:
    flaw = note.flaw
    return words(
        flaw.kind,
        cell=words.name(note.cell),
        run=flaw.run,
        found=f"{flaw.found:,}",
        expected=f"{flaw.expected:,}",
        other=flaw.other,
        score=words.score(flaw.score).in_sentence,
    )


@say.register
def _(note: NotMeasured, words: Language) -> str:
    return words("NotMeasured", score=words.score(note.score).title, cells=words.listed(note.cells))


@say.register
def _(note: TrainedOnce, words: Language) -> str:
    return words("TrainedOnce", cells=words.listed(note.cells))


@say.register
def _(note: Cut, words: Language) -> str:
    return words(note.kind, share=_range(note.low, note.high), cells=words.listed(note.cells))


@say.register
def _(note: Disturbed, words: Language) -> str:
    return words("Disturbed", share=_range(note.low, note.high), cells=words.listed(note.cells))


@say.register
def _(note: OtherBatches, words: Language) -> str:
    parts = [
        words(
            "Batches.again" if part.gradient_checkpointing else "Batches.kept",
            micro_batch=part.micro_batch,
            cells=words.listed(part.cells),
        )
        for part in note.parts
    ]
    return words("OtherBatches", parts=words("Batches.between").join(parts))


@say.register
def _(note: Skipped, words: Language) -> str:
    return words("Skipped", share=_range(note.low, note.high), cells=words.listed(note.cells))


def _range(low: float, high: float) -> str:
    # Rounded up, since no share here is 0.
    first, last = (f"{max(share, 0.001):.1%}" for share in (low, high))
    return first if first == last else f"{first}–{last}"


@say.register
def _(note: Capped, words: Language) -> str:
    names = [words.score(score).in_sentence for score in note.scores]
    return words(
        "Capped",
        cells=f"{note.cells:,}",
        compared=note.compared,
        pairs=note.pairs,
        score=names[0],
        scores=words.between_names.join(names),
    )


@say.register
def _(note: CellsCut, words: Language) -> str:
    return words("CellsCut", group=say(note.group, words), shown=note.shown, count=note.count)


_AsTheyAre = (
    PickedOfMany
    | GroupsCut
    | RunsCut
    | NoAnswers
    | NoPredictions
    | AnswersOfCells
    | LowestSeed
    | QuestionsDrawn
    | TextsCut
)


@say.register
def _(note: _AsTheyAre, words: Language) -> str:
    """Notes whose values are inserted unchanged."""
    values = {name: f"{value:,}" if isinstance(value, int) else value for name, value in vars(note).items()}
    return words(type(note).__name__, **values)
