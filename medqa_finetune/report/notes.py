"""What a reader must know of a report: what it left out, capped or could not read, as values."""

from dataclasses import dataclass
from enum import StrEnum


class FlawKind(StrEnum):
    """Why the scores per question of a cell cannot be used."""

    NO_SCORES = "no scores"
    # Not as many as the record has questions.
    OTHER_NUMBER = "other number"
    # Not those of the cell's first run.
    OTHER_QUESTIONS = "other questions"
    # They do not add up to the record's score.
    OTHER_SUM = "other sum"
    ONE_QUESTION = "one question"


@dataclass(frozen=True)
class Flaw:
    """Why the scores per question of a cell cannot be used.

    Attributes:
        kind: What is wrong.
        run: Of which run; empty where it is of all of them.
        found: Scores per question, where their number is wrong.
        expected: Questions in the record, where the number is wrong.
        other: The run with other questions.
        score: The score that does not add up.
    """

    kind: FlawKind
    run: str = ""
    found: int = 0
    expected: int = 0
    other: str = ""
    score: str = ""


@dataclass(frozen=True)
class NoStatistics:
    """A cell without statistics."""

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


@dataclass(frozen=True)
class Capped:
    """There were too many cells to compare all pairs.

    Attributes:
        cells: All of them.
        compared: Those that are compared with each other.
        scores: Headline scores that all cells have intervals for; the first one chose. One at least.
    """

    cells: int
    compared: int
    scores: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """Pairs that are compared."""
        return self.compared * (self.compared - 1) // 2


@dataclass(frozen=True)
class PickedOfMany:
    """The cells that are compared were picked by their score, which overstates it."""


@dataclass(frozen=True)
class GroupName:
    """What the runs of a group share.

    Attributes:
        test: Beginning of the test set's hash.
        evaluation: What differs from the default evaluation, as it is typed; empty where nothing does.
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
    """Running text was measured: there are no answers to show."""


@dataclass(frozen=True)
class NoPredictions:
    """The predictions of a cell, called `label`, cannot be read."""

    label: str


@dataclass(frozen=True)
class AnswersOfCells:
    """The page has the answers of the first `shown` of `count` cells."""

    shown: int
    count: int


@dataclass(frozen=True)
class LowestSeed:
    """Of each cell, the page has the answers of the run with the lowest seed."""


@dataclass(frozen=True)
class QuestionsDrawn:
    """The page has `shown` of `count` questions, drawn by a hash of their ids."""

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
