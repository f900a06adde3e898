"""Which runs' scores may stand in one column: the same evaluation, and the same signature of every score both have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from medqa_finetune.config.identity import DEFAULT_EVALUATION, evaluation_identity
from medqa_finetune.record.evaluations import evaluation_parts
from medqa_finetune.record.schema import Record
from medqa_finetune.report.scores import is_benchmark, scores_of, signatures

T = TypeVar("T")


@dataclass(frozen=True)
class Basis:
    """What scores rest on.

    Attributes:
        test: Task, test set, number of questions and identity of the evaluation.
        signatures: By score; one that was not measured is not there, and speaks against nothing.
    """

    test: tuple[Any, ...]
    signatures: Mapping[str, str]

    def agrees(self, other: "Basis") -> bool:
        """Say whether no score of the two would stand in one column without being the same figure."""
        both = self.signatures.keys() & other.signatures.keys()
        return self.test == other.test and all(self.signatures[score] == other.signatures[score] for score in both)

    def joined(self, other: "Basis") -> "Basis":
        """Return what both rest on together."""
        return replace(self, signatures={**self.signatures, **other.signatures})


def basis_of(row: Mapping[Any, Any], scores: Sequence[str] | None = None) -> Basis:
    """Return what the scores of a row of the table rest on; `scores` names those that matter, None all of them."""
    # A benchmark says nothing of the predictions' scores.
    found = {score: own for score, own in signatures(row["signature"]).items() if not is_benchmark(score)}
    kept = {score: own for score, own in found.items() if scores is None or score in scores}
    evaluation = row["evaluation_identity"] or ""
    return Basis((row["task"] or "", row["test_sha256"] or "", row["n_test"] or 0, evaluation), kept)


def basis_of_record(record: Record) -> Basis:
    """Return what the scores of a done run rest on."""
    manifest, evaluation = record.data_manifest, record.evaluation
    test = (record.setting("corpus", "task") or "", manifest.test.sha256 if manifest is not None else "")
    identity = evaluation_identity_of(record)
    if evaluation is None:
        return Basis((*test, 0, identity), {})
    return Basis(
        (*test, evaluation.n, identity), {name: score.signature for name, score in scores_of(evaluation).items()}
    )


def evaluation_identity_of(record: Record) -> str:
    """Return the identity of the evaluation that a record is seen by; empty where the record does not say."""
    return evaluation_identity(record.config) if isinstance(record.config.get("evaluate"), dict) else ""


def evaluation_shown(name: str | None) -> str:
    """Return an evaluation's name as titles show it: what differs from the default settings; empty for those."""
    return "" if name in (None, "", DEFAULT_EVALUATION) else ", ".join(evaluation_parts(str(name)))


def parts_that_compare(items: Sequence[T], basis: Callable[[T], Basis]) -> list[list[T]]:
    """Return items in parts whose scores compare; each goes to the first part that it agrees with."""
    parts: list[tuple[Basis, list[T]]] = []
    for item in items:
        own = basis(item)
        place = next((place for place, (shared, _) in enumerate(parts) if shared.agrees(own)), None)
        if place is None:
            parts.append((own, [item]))
        else:
            shared, members = parts[place]
            parts[place] = (shared.joined(own), [*members, item])
    return [members for _, members in parts]
