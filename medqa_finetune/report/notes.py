"""Values for the notes of a report: what it left out, capped or could not read."""

from dataclasses import dataclass
from enum import StrEnum


class FlawKind(StrEnum):
    """Why the scores per question of a cell cannot be used."""

    NO_SCORES = "no scores"
    # Their number differs from the record's questions.
    OTHER_NUMBER = "other number"
    # Their questions differ from those of the cell's first run.
    OTHER_QUESTIONS = "other questions"
    # They do not add up to the record's score.
    OTHER_SUM = "other sum"
    ONE_QUESTION = "one question"


@dataclass(frozen=True)
class Flaw:
    """Why the scores per question of a cell cannot be used.

    Attributes:
        kind: What is wrong.
        run: The run it concerns; empty for all runs.
        found: Number of scores per question, if it is wrong.
        expected: Number of questions in the record, if `found` is wrong.
        other: The run with other questions.
        score: The score whose mean differs from the record.
    """

    kind: FlawKind
    run: str = ""
    found: int = 0
    expected: int = 0
    other: str = ""
    score: str = ""


@dataclass(frozen=True)
class NoStatistics:
    """A cell whose scores per question cannot be used, so that it has no statistics."""

    cell: str
    flaw: Flaw


@dataclass(frozen=True)
class NotMeasured:
    """Cells that lack a score that others have."""

    score: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class TrainedOnce:
    """Trained cells with one seed."""

    cells: tuple[str, ...]


class CutKind(StrEnum):
    """What was cut to fit `train.max_length`."""

    EXAMPLES = "training examples"
    PROMPTS = "prompts"
    REFERENCES = "references"


@dataclass(frozen=True)
class Cut:
    """Cells whose examples or questions were cut to fit `train.max_length`.

    Attributes:
        low: Smallest share of a cell, in (0, 1].
        high: Largest.
    """

    kind: CutKind
    cells: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Disturbed:
    """Cells whose training shared its machine, or whose GPU was slowed down, so that their times do not compare.

    Attributes:
        low: Smallest share of a cell's training time that was taken, in (0, 1].
        high: Largest.
    """

    cells: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Batches:
    """Cells that were trained with the same batches.

    Attributes:
        micro_batch: Most examples of full length per forward pass.
        gradient_checkpointing: Whether activations were computed again.
    """

    micro_batch: int
    gradient_checkpointing: bool
    cells: tuple[str, ...]


@dataclass(frozen=True)
class OtherBatches:
    """Cells of one model on one device were trained with different batches, so that their costs do not compare."""

    parts: tuple[Batches, ...]


@dataclass(frozen=True)
class Skipped:
    """Cells with training steps that changed nothing, because their gradients were not finite in fp16.

    Attributes:
        low: Smallest share of a cell's steps, in (0, 1].
        high: Largest.
    """

    cells: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Capped:
    """There were too many cells to compare all pairs.

    Attributes:
        cells: Number of all cells.
        compared: Number of cells that are compared with each other.
        scores: Headline scores for which all cells have intervals; the first determined the choice. At least one.
    """

    cells: int
    compared: int
    scores: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """Number of compared pairs."""
        return self.compared * (self.compared - 1) // 2


@dataclass(frozen=True)
class PickedOfMany:
    """The compared cells were selected by their score, which biases it upwards."""


@dataclass(frozen=True)
class GroupName:
    """What the runs of a group share, for its title.

    Attributes:
        test: Beginning of the test set's hash.
        evaluation: Overrides that differ from the default evaluation; empty for the default.
    """

    study: str
    model: str
    corpus: str
    n: int
    test: str
    evaluation: str = ""


@dataclass(frozen=True)
class GroupsCut:
    """The page shows the first `shown` of `count` groups."""

    shown: int
    count: int


@dataclass(frozen=True)
class CellsCut:
    """The page shows the first `shown` of `count` cells of a group."""

    group: GroupName
    shown: int
    count: int


@dataclass(frozen=True)
class RunsCut:
    """The page lists the first `shown` of `count` runs, and their commands."""

    shown: int
    count: int


@dataclass(frozen=True)
class NoAnswers:
    """There are no predictions to show, since the task is running text."""


@dataclass(frozen=True)
class NoPredictions:
    """The predictions of a cell, called `label`, cannot be read."""

    label: str


@dataclass(frozen=True)
class AnswersOfCells:
    """The page has the predictions of the first `shown` of `count` cells."""

    shown: int
    count: int


@dataclass(frozen=True)
class LowestSeed:
    """Of each cell, the page has the predictions of the run with the lowest seed."""


@dataclass(frozen=True)
class QuestionsDrawn:
    """The page has `shown` of `count` questions, selected by a hash of their ids."""

    shown: int
    count: int


@dataclass(frozen=True)
class TextsCut:
    """`count` texts are cut at `length` characters."""

    count: int
    length: int


Note = (
    NoStatistics
    | NotMeasured
    | TrainedOnce
    | Cut
    | Disturbed
    | OtherBatches
    | Skipped
    | Capped
    | PickedOfMany
    | GroupsCut
    | CellsCut
    | RunsCut
    | NoAnswers
    | NoPredictions
    | AnswersOfCells
    | LowestSeed
    | QuestionsDrawn
    | TextsCut
)
