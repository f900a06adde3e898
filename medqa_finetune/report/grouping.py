"""Decides which runs belong together: in a cell, a family of cells, a group of the page, a table, and a column.

Everything builds on `Basis.agrees`: whether the scores of two runs are figures of the same kind.

- a **cell** is the runs that differ in nothing but the seed (`cells_of`);
- a **family** is the cells that are compared with each other, if `comparability` finds no difference
  (`families_of`);
- a **group** is the runs that one section of the page and one row of panels shows (`groups_of`);
- a **table** is the runs in one table of the terminal (`tables_of`);
- a **kind** is the figures in one column of the CSV files (`kinds_of`).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd

from medqa_finetune.evaluation.metric_registry import headlines
from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.labels import SEED_IN_NAME, in_reading_order
from medqa_finetune.report.names import (
    GroupNames,
    evaluation_shown,
    plain,
    training_items,
)
from medqa_finetune.report.runs import Cell, Run, corpus_of, settings_of, train_size_of
from medqa_finetune.report.scores import headline_columns, is_benchmark, score_info, signatures

T = TypeVar("T")


@dataclass(frozen=True)
class Basis:
    """What makes scores comparable: the test set, and how each score was computed.

    Attributes:
        test: Task, test set, number of questions and identity of the evaluation.
        signatures: By score; a score that was not measured is absent and never disagrees.
    """

    test: tuple[str, str, int, str]
    signatures: Mapping[str, str]

    def agrees(self, other: "Basis") -> bool:
        """Return whether the tests and the signatures of all shared scores are equal."""
        both = self.signatures.keys() & other.signatures.keys()
        return self.test == other.test and all(self.signatures[score] == other.signatures[score] for score in both)

    def joined(self, other: "Basis") -> "Basis":
        """Merge the signatures of both."""
        return replace(self, signatures={**self.signatures, **other.signatures})


def basis_of(run: Run, scores: Sequence[str] | None = None) -> Basis:
    """Return the basis of a run's scores.

    Benchmarks are not part of it, since they are independent of the predictions.

    Args:
        run: A run with a readable record.
        scores: Names of the scores to include; None for all.
    """
    record = run.known
    manifest, evaluation = record.data_manifest, record.evaluation
    test = manifest.test.sha256 if manifest is not None else ""
    n = evaluation.n if evaluation is not None else 0
    found = {name: score.signature for name, score in run.scores.items() if scores is None or name in scores}
    return Basis((str(record.setting("corpus", "task") or ""), test, n, run.evaluation_identity), found)


def parts_that_compare(items: Sequence[T], basis: Callable[[T], Basis]) -> list[list[T]]:
    """Partition items so that scores within a part compare; each goes to the first part that it agrees with."""
    parts: list[tuple[Basis, list[T]]] = []
    for item in items:
        own = basis(item)
        place = next((place for place, (shared, _) in enumerate(parts) if shared.agrees(own)), None)
        if place is None:
            parts.append((own, [item]))
        else:
            shared, members = parts[place]
            members.append(item)
            parts[place] = (shared.joined(own), members)
    return [members for _, members in parts]


def cell_names(runs: Sequence[Run]) -> list[str]:
    """Return the name of every run's cell, in order.

    Runs of one cell have the same study, method, model, training examples and settings but for the seed, the same test
    set, and the same signature of every score that both have. The name is that of the run with the lowest seed, without
    the seed, prefixed by its study; a second cell of that name gets the suffix ` (2)`.
    """
    alike: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        record = run.known
        settings = sorted(settings_of(record).items())
        key = repr((run.study, record.method, record.model, train_size_of(record), settings))
        alike.setdefault(key, []).append(place)
    basis = [basis_of(run) for run in runs]
    cells = [part for places in alike.values() for part in parts_that_compare(places, basis.__getitem__)]
    found, taken = [""] * len(runs), dict[str, int]()
    for cell in sorted(cells):
        first = min((runs[place] for place in cell), key=lambda run: run.known.seed)
        name = SEED_IN_NAME.sub("", first.place)
        taken[name] = taken.get(name, 0) + 1
        for place in cell:
            found[place] = name if taken[name] == 1 else f"{name} ({taken[name]})"
    return found


def cells_of(runs: Sequence[Run]) -> list[Cell]:
    """Return the cells of the done runs, in the order of their first runs.

    Of copies of one run, only the first is used; runs without scores are left out.
    """
    grouped: dict[str, dict[int, Run]] = {}
    done = [run for run in runs if run.done]
    for name, run in zip(cell_names(done), done, strict=True):
        if run.scored:
            grouped.setdefault(name, {}).setdefault(run.known.seed, run)
    cells = [Cell(name, tuple(seeds[seed] for seed in sorted(seeds))) for name, seeds in grouped.items()]
    return [replace(cell, entry=_text(cell.runs[0], "entry"), label=_text(cell.runs[0], "label")) for cell in cells]


Family = tuple[str, str, str, str]


def families_of(cells: Sequence[Cell]) -> dict[Family, list[Cell]]:
    """Group cells by study, corpus, task and identity of the evaluation, which compared cells must share."""
    found: dict[Family, list[Cell]] = {}
    for cell in cells:
        run = cell.runs[0]
        task = str(cell.first.setting("corpus", "task") or "")
        found.setdefault((run.study, corpus_of(cell.first), task, run.evaluation_identity), []).append(cell)
    return found


@dataclass(frozen=True)
class Member:
    """A run of a group."""

    run: Run

    @property
    def entry(self) -> str:
        """Its legend entry: the method, with the settings in which it differs from other runs."""
        return plain(str(self.run.values["entry"]))

    @property
    def label(self) -> str:
        """The entry with the size."""
        return plain(str(self.run.values["short_label"]))


@dataclass(frozen=True)
class Group:
    """Runs that compare: same task, model, corpus, study, test set, evaluation and signatures.

    Attributes:
        members: Runs in table order, including those that are not done.
        several: Whether another group has the same model, corpus and study.
        left_out: Names of runs with the same model, corpus and study that compare with no trained run.
        of_cells: Number of cells, missing ones included, before `first_groups` left some out; 0 if it left out none.
        of_groups: Number of groups before it left some out, in the last group that is left; 0 elsewhere.
    """

    members: tuple[Member, ...]
    several: bool = False
    left_out: tuple[str, ...] = ()
    of_cells: int = 0
    of_groups: int = 0

    @cached_property
    def tuned(self) -> list[Member]:
        """Done runs with training examples."""
        return [each for each in self.members if each.run.done and each.run.values["train_size"] > 0]

    @cached_property
    def base(self) -> list[Member]:
        """Done runs of the untuned base."""
        return [each for each in self.members if each.run.done and each.run.values["train_size"] == 0]

    @cached_property
    def asked(self) -> list[Member]:
        """Requested runs with training examples, done or not."""
        return [each for each in self.members if each.run.values["train_size"] > 0]

    @cached_property
    def sizes(self) -> list[int]:
        """Requested training sizes, ascending."""
        return sorted({each.run.values["train_size"] for each in self.asked})

    @cached_property
    def entries(self) -> list[str]:
        """Legend entries, one per requested method or variant."""
        return sorted({each.entry for each in self.asked}, key=in_reading_order)

    @cached_property
    def scores(self) -> list[ScoreInfo]:
        """Headline scores that any run has; if there are none, the headline scores of predictions."""
        measured = {column for each in self.members for column, value in each.run.values.items() if value is not None}
        found = [score for score in headlines() if score.name in measured]
        return found or [score for score in headlines() if not score.running_text][:2]

    @cached_property
    def training_items(self) -> str:
        """Axis label for the size of training sets."""
        return training_items(self.scores[0])

    @cached_property
    def missing(self) -> list[tuple[str, int]]:
        """(entry, training size) combinations without a done run; none where some were left out."""
        if self.of_cells:
            return []
        done = {(each.entry, each.run.values["train_size"]) for each in self.tuned}
        return [(entry, size) for entry in self.entries for size in self.sizes if (entry, size) not in done]

    @cached_property
    def names(self) -> GroupNames:
        """Source of the group's title and caption."""
        seeds = Counter((each.entry, each.run.values["train_size"]) for each in self.tuned)
        return GroupNames(
            runs=[each.run for each in self.members],
            several=self.several,
            left_out=self.left_out,
            seeds=max(seeds.values(), default=0),
            incomplete=bool(self.missing),
            cells=(len(self.cells), self.of_cells),
            groups=self.of_groups,
        )

    @cached_property
    def cells(self) -> list[Cell]:
        """Done cells with display names: baselines first, then by method and data size."""
        grouped: dict[str, list[Member]] = {}
        for each in (*self.base, *self.tuned):
            grouped.setdefault(each.run.values["cell"], []).append(each)
        cells = []
        for name, members in grouped.items():
            runs = sorted((each.run for each in members), key=lambda run: run.known.seed)
            cells.append(Cell(name, tuple(runs), members[0].entry, members[0].label))
        labels = Counter(cell.label for cell in cells)
        cells = [cell if labels[cell.label] == 1 else replace(cell, label=plain(cell.name)) for cell in cells]
        return sorted(cells, key=_place_of)


def _place_of(cell: Cell) -> tuple[object, ...]:
    return (cell.train_size > 0, in_reading_order(cell.entry), cell.train_size, cell.name)


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """Return the groups of runs that compare; groups without a done run with training examples are left out.

    A run that is not done has no test set yet and goes to the first group of its task, model, corpus, study and
    evaluation, or of the first evaluation if none has begun. Of copies (records with one identity and evaluation in one
    study), the first done one is used.
    """
    kept: dict[tuple[str, str, str], Run] = {}
    known = [run for run in runs if run.values.get("train_size") is not None]
    for run in sorted(known, key=lambda run: not run.done):
        kept.setdefault((run.study, run.known.identity, _text(run, "evaluation_identity")), run)
    order = {id(run): place for place, run in enumerate(known)}
    rows = sorted(kept.values(), key=lambda run: order[id(run)])
    places: dict[tuple[str, ...], list[Run]] = {}
    for run, evaluated in zip(rows, _evaluated(rows), strict=True):
        places.setdefault((*_place(run), evaluated), []).append(run)
    return [group for _, placed in sorted(places.items()) for group in _groups_of_place(placed)]


def first_groups(groups: Sequence[Group], most_groups: int, most_cells: int) -> list[Group]:
    """Return the first groups; of those with too many cells, the first that are done.

    Their captions say what is left out.
    """
    found = [_first_cells(group, most_cells) for group in groups[:most_groups]]
    if len(groups) > most_groups:
        found[-1] = replace(found[-1], of_groups=len(groups))
    return found


def _first_cells(group: Group, most: int) -> Group:
    count = len(group.cells) + len(group.missing)
    if count <= most:
        return group
    # With some training, without which there is no group.
    kept = {run.place for cell in group.cells[:most] for run in cell.runs}
    kept |= {group.tuned[0].run.place}
    members = tuple(each for each in group.members if each.run.done and each.run.place in kept)
    return replace(group, members=members, of_cells=count)


def _place(run: Run) -> tuple[str, ...]:
    return tuple(_text(run, column) for column in ("task", "model", "corpus", "study"))


def _text(run: Run, column: str) -> str:
    value = run.values.get(column)
    return value if isinstance(value, str) else ""


def _evaluated(runs: Sequence[Run]) -> list[str]:
    """Return each run's evaluation as grouping key, the default first; runs without one take that of other runs."""
    keys = []
    for run in runs:
        identity = _text(run, "evaluation_identity")
        keys.append(f"{evaluation_shown(_text(run, 'evaluation'))}\0{identity}" if identity else None)
    first: dict[tuple[str, ...], str] = {}
    places = [_place(run) for run in runs]
    for place, key in sorted(zip(places, keys, strict=True), key=lambda pair: pair[1] or ""):
        if key is not None:
            first.setdefault(place, key)
    return [key if key is not None else first.get(place, "") for place, key in zip(places, keys, strict=True)]


def _groups_of_place(placed: Sequence[Run]) -> list[Group]:
    order = {id(run): place for place, run in enumerate(placed)}
    done, waiting = [run for run in placed if run.done], [run for run in placed if not run.done]
    by_test = sorted(done, key=lambda run: (_text(run, "test_sha256"), run.values.get("n_test") or 0))
    parts = [
        sorted(part, key=lambda run: order[id(run)])
        for part in parts_that_compare(by_test, lambda run: basis_of(run, headline_columns()))
    ]
    trained = [any(run.values["train_size"] > 0 for run in part) for part in parts]
    drawn = [part for part, trains in zip(parts, trained, strict=True) if trains]
    left_out = tuple(run.name for part, trains in zip(parts, trained, strict=True) if not trains for run in part)
    groups = []
    for place, part in enumerate(drawn):
        runs = [*part, *waiting] if place == 0 else part
        groups.append(Group(tuple(map(Member, runs)), len(drawn) > 1, left_out))
    return groups


def tables_of(runs: Sequence[Run]) -> list[list[Run]]:
    """Partition runs into tables of comparable scores, in order; runs without scores join the first of their task."""
    parts = parts_that_compare([run for run in runs if run.values.get("signature")], basis_of)
    place = {id(run): number for number, part in enumerate(parts) for run in part}
    for run in runs:
        if id(run) not in place:
            task = run.values.get("task")
            like = (number for number, part in enumerate(parts) if part[0].values.get("task") == task)
            place[id(run)] = next(like, 0)
    numbers = sorted(set(place.values())) or [0]
    return [[run for run in runs if place[id(run)] == number] for number in numbers]


def kinds_of(rows: Sequence[Mapping[Any, Any]], score: str) -> list[int | None]:
    """Return the number, from 1, of the kind of each row's figure within its evaluation.

    Figures are of one kind if test set, number of questions and the score's signature agree; for perplexities, which
    depend on the tokenizer, also the model; for benchmarks, only the signature. Kind 1 is the most frequent one. A row
    without the score has None.
    """
    keys = [_kind(row, score) for row in rows]
    counted: dict[str, Counter[str]] = {}
    for row, key in zip(rows, keys, strict=True):
        if key is not None:
            counted.setdefault(str(row.get("evaluation_identity")), Counter())[key] += 1
    # The sort is stable: equally frequent kinds keep their order.
    order = {name: sorted(kinds, key=kinds.__getitem__, reverse=True) for name, kinds in counted.items()}
    return [
        None if key is None else order[str(row.get("evaluation_identity"))].index(key) + 1
        for row, key in zip(rows, keys, strict=True)
    ]


def _kind(row: Mapping[Any, Any], score: str) -> str | None:
    if pd.isna(row.get(score)):
        return None
    test = [] if is_benchmark(score) else [row["test_sha256"], row["n_test"]]
    signature = signatures(row["signature"]).get(score, "")
    return repr([*map(str, (*test, signature)), row["model"] if score_info(score).per_tokenizer else ""])
