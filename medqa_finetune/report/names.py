"""Names runs, cells and groups in tables and charts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import east_asian_width

from medqa_finetune.compat.fonts import chinese_font
from medqa_finetune.config.identity import DEFAULT_EVALUATION
from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.record.evaluations import evaluation_parts
from medqa_finetune.report.runs import Run
from medqa_finetune.report.scores import signatures, training_items_of

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
    """

    runs: Sequence[Run]
    several: bool
    left_out: Sequence[str]
    seeds: int
    incomplete: bool

    @property
    def title(self) -> str:
        """Model, corpus, study and number of questions."""
        first = self._done[0].values
        study = f", study {plain(first['study'])}" if first["study"] else ""
        test_set = f", test set {(first['test_sha256'] or '')[:8] or 'unknown'}" if self.several else ""
        shown = evaluation_shown(first.get("evaluation"))
        test_set += f", {plain(shown)}" if shown else ""
        n = first.get("n_test") or 0
        return f"{plain(first['model'] or '')} on {plain(first['corpus'] or '')}{study}{test_set} (n = {n:,})"

    @property
    def caption(self) -> str:
        """Number of questions, seeds and missing cells."""
        first = self._done[0].values
        items = "blocks" if first["task"] == "text" else "questions"
        lines = [f"n = {first.get('n_test') or 0:,} test {items}, the same for every run."]
        lines.append("Mean over seeds, each seed a dot." if self.seeds > 1 else "One seed per cell.")
        waiting = [
            f"{run.values.get('label') or run.name} ({run.values['status']})" for run in self.runs if not run.done
        ]
        if self.incomplete:
            lines.append("× marks a cell that is missing" + (f": {some(waiting)}." if waiting else "."))
        if self.left_out:
            lines.append(f"Not shown, because test set or signature differs: {some(self.left_out)}.")
        return " ".join(lines)

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


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(plain(name) for name in names[:NAMES_SHOWN]) + more


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
    """Make a name safe for charts: no formulas, and no characters missing from every font."""
    if chinese_font() is None:
        text = text.encode("ascii", "backslashreplace").decode()
    return text.replace("$", r"\$")
