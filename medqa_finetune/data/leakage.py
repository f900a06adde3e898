"""Near-duplicates of held-out questions: found by MinHash, confirmed by counting."""

from collections.abc import Sequence

import rensa

PERMUTATIONS = 128
# Least chance that a pair just at the threshold becomes a candidate.
RECALL = 0.99
HASH_SEED = 1
GRAM = 3


def trigrams(text: str) -> set[str]:
    """Return the set of a text's character trigrams; a text shorter than three characters is its own only one."""
    return {text[i : i + GRAM] for i in range(len(text) - GRAM + 1)} or {text}


def jaccard(a: set[str], b: set[str]) -> float:
    """Return the Jaccard similarity |a and b| / |a or b| of two sets that are not both empty, in [0, 1]."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def bands_for(threshold: float) -> int:
    """Return into how many bands the 128 MinHash values are cut.

    Two texts of similarity t agree in one band of r values with chance t^r, hence become candidates with chance
    1 - (1 - t^r)^b (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2). The fewest bands, thus the fewest
    false candidates, that reach `RECALL` at the threshold are taken: 32 at 0.8, where the chance is 0.9999999.
    """
    bands = 1
    while bands < PERMUTATIONS and 1 - (1 - threshold ** (PERMUTATIONS / bands)) ** bands < RECALL:
        bands *= 2
    return bands


class HeldOutIndex:
    """Answers which questions are near-duplicates of a held-out one.

    Args:
        questions: Held-out questions, normalised.
        threshold: Jaccard similarity of character trigrams from which two questions count as the same, in (0, 1].
    """

    def __init__(self, questions: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._grams = [trigrams(question) for question in questions]
        self._index = rensa.RMinHashLSH(threshold, PERMUTATIONS, bands_for(threshold))
        self._index.insert_many(self._sketches(self._grams))

    def near(self, questions: Sequence[str]) -> list[bool]:
        """Say of each question, normalised, whether it is a near-duplicate of a held-out one."""
        grams = [trigrams(question) for question in questions]
        candidates: list[list[int]] = self._index.query_all(self._sketches(grams))
        return [
            any(jaccard(mine, self._grams[held_out]) >= self._threshold for held_out in found)
            for mine, found in zip(grams, candidates, strict=True)
        ]

    @staticmethod
    def _sketches(grams: list[set[str]]) -> list[rensa.RMinHash]:
        sketches: list[rensa.RMinHash] = rensa.RMinHash.from_token_sets(grams, PERMUTATIONS, HASH_SEED)
        return sketches
