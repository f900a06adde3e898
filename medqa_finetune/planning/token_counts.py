"""Token counts of a sample of examples, and the work that follows from them."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medqa_finetune.training.meters import Work


@dataclasses.dataclass(frozen=True)
class TokenCounts:
    """Token counts of a sample of examples: of the whole, of the part with a loss, and of the last answer.

    Attributes:
        cut: Share of the sample that is cut to fit `train.max_length`, in [0, 1].
    """

    lengths: list[int]
    labelled: list[int]
    answers: list[int]
    places: list[int]
    cut: float = 0.0

    def work(self, pairs: int) -> "Work":
        """Scale the sample's work to `pairs` examples."""
        from medqa_finetune.training.meters import Work

        times = pairs / max(1, len(self.lengths))
        squares = sum(length * length for length in self.lengths)
        return Work(pairs, round(sum(self.lengths) * times), round(sum(self.labelled) * times), round(squares * times))
