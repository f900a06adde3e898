"""Names runs, cells and groups in tables and charts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import east_asian_width

from medqa_finetune.config.identity import DEFAULT_EVALUATION
from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.record.evaluations import evaluation_parts
from medqa_finetune.report.messages import label, name_of
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.runs import Run
from medqa_finetune.report.scores import signatures, training_items_of
from medqa_finetune.report.unfinished import state_of

LABEL_WIDTH = 22
# A word of so many columns at the end of a label is kept when the label is shortened.
SIZE_COLUMNS = 8
NAMES_SHOWN = 6
# Sizes from here on have names such as `20k`.
FIRST_SHORTENED = 10_000


@dataclass(frozen=True)
class GroupNames:
    """The title and the caption of a group of runs that compare.

    Attributes:
        runs: Runs of the group, at least one of them done.
        several: Whether another group has the same model, corpus and study.
        left_out: Names of similar runs that compare with none of them.
        seeds: Largest number of seeds of one cell.
        incomplete: Whether cells are missing.
        cells: Number of cells that are shown, and of all if some are left out, else 0.
        groups: Number of all groups if some are left out after this one, else 0.
    """

    runs: Sequence[Run]
    several: bool
    left_out: Sequence[str]
    seeds: int
    incomplete: bool
    cells: tuple[int, int] = (0, 0)
    groups: int = 0

    @property
    def subject(self) -> Text:
        """Model, corpus and study, and what else distinguishes it from other groups."""
        first = self._done[0].values
        more = [label("group.study", study=plain(first["study"]))] if first["study"] else []
        if self.several:
            test = (first["test_sha256"] or "")[:8]
            more.append(label("group.test", test=test) if test else label("group.test_unknown"))
        if shown := evaluation_shown(first.get("evaluation")):
            more.append(label("group.evaluation", evaluation=plain(shown)))
        whole = Text("".join(each.en for each in more), "".join(each.zh for each in more))
        return label(
            "group.subject", model=plain(first["model"] or ""), corpus=plain(first["corpus"] or ""), more=whole
        )

    @property
    def title(self) -> Text:
        """The subject and the number of questions."""
        return label("group.title", subject=self.subject, n=f"{self._done[0].values.get('n_test') or 0:,}")

    @property
    def caption(self) -> Text:
        """Number of questions, seeds and missing cells."""
        first = self._done[0].values
        key = "group.blocks" if first["task"] == "text" else "group.questions"
        said = label(key, n=f"{first.get('n_test') or 0:,}")
        said += label("group.seeds" if self.seeds > 1 else "group.one_seed")
        waiting = [_waiting(run) for run in self.runs if not run.done]
        if self.incomplete:
            said += label("group.missing_runs", runs=some(waiting)) if waiting else label("group.missing")
        if self.left_out:
            said += label("group.left_out", runs=some([Text(name, name) for name in self.left_out]))
        shown, count = self.cells
        if count:
            said += label("group.cells_cut", shown=f"{shown:,}", count=f"{count:,}")
        if self.groups:
            said += label("group.groups_cut", count=f"{self.groups:,}")
        return said

    @property
    def test_set(self) -> str:
        """Beginning of the test set's sha256."""
        return str(self._done[0].values["test_sha256"] or "")[:8]

    @property
    def signatures(self) -> dict[str, str]:
        """Signature of every score that a done run has."""
        return {score: own for run in self._done for score, own in signatures(run.values.get("signature")).items()}

    @property
    def _done(self) -> list[Run]:
        return [run for run in self.runs if run.done]


def _waiting(run: Run) -> Text:
    name, status = name_of(str(run.values.get("label") or run.name)), str(run.values["status"])
    return Text(f"{name.en} ({status})", f"{name.zh}（{label(f'status.{state_of(run).name}').zh}）")


def some(names: Sequence[Text]) -> Text:
    """Return the first names, and how many more there are."""
    shown = names[:NAMES_SHOWN]
    listed = Text(", ".join(plain(name.en) for name in shown), "、".join(plain(name.zh) for name in shown))
    more = len(names) - len(shown)
    return label("names.more", names=listed, more=more, count=len(names)) if more else listed


def evaluation_shown(name: str | None) -> str:
    """Return an evaluation's name for titles: the settings that differ from the default; empty for the default."""
    return "" if name in (None, "", DEFAULT_EVALUATION) else ", ".join(evaluation_parts(str(name)))


def training_items(score: ScoreInfo) -> str:
    """Return the axis label for the size of the training sets of runs with this score."""
    return f"Training {training_items_of(score)}"


def two_lines(label: str) -> str:
    """Wrap or shorten a label to at most two lines of `LABEL_WIDTH` columns, for an axis or a legend."""
    lines: list[str] = []
    for word in label.split():
        # A word that is longer than a line is broken; Chinese has no blanks.
        for piece in _pieces(word):
            joined = f"{lines[-1]} {piece}" if lines else piece
            if lines and columns_of(joined) <= LABEL_WIDTH:
                lines[-1] = joined
            else:
                lines.append(piece)
    if len(lines) > 2:
        # The last word of a cell's label is its size.
        words = label.split()
        last = f" {words[-1]}" if len(words) > 1 and columns_of(words[-1]) <= SIZE_COLUMNS else ""
        return f"{lines[0]}\n{_cut(lines[1], LABEL_WIDTH - 1 - columns_of(last))}…{last}"
    return "\n".join(lines)


def _pieces(word: str) -> Iterator[str]:
    while columns_of(word) > LABEL_WIDTH:
        piece = _cut(word, LABEL_WIDTH)
        yield piece
        word = word[len(piece) :]
    yield word


def _cut(text: str, columns: int) -> str:
    while columns_of(text) > columns:
        text = text[:-1]
    return text


def columns_of(text: str) -> int:
    """Return the width of a text in columns; a Chinese character takes two."""
    return sum(2 if east_asian_width(letter) in "FW" else 1 for letter in text)


def size_tick(size: int) -> str:
    """Format the size of a training set as runs are called by it: 20000 as `20k`; 1000, called `n1000`, as `1,000`."""
    return compact(size) if size >= FIRST_SHORTENED else f"{size:,}"


def size_word(size: int) -> str:
    """Format the size of a training set as in a run's label: 20000 as `20k`, 1000 as `n1000`."""
    return compact(size) if size >= FIRST_SHORTENED else f"n{size}"


def compact(size: int) -> str:
    """Format a number as a short label: 20000 as `20k`, 1500 as `1.5k`, 120 as `120`."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return str(size)


def plain(text: str) -> str:
    """Make a name safe for charts, in which a dollar sign would begin a formula."""
    return text.replace("$", r"\$")
