"""Which runs may stand in one picture, and how they are called there."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import pandas as pd
from matplotlib import font_manager

from medqa_finetune.config.checks import FOLDER_NAME_BYTES
from medqa_finetune.evaluation.metric_registry import headlines
from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.comparable import basis_of, evaluation_shown, parts_that_compare
from medqa_finetune.report.scores import headline_columns, signatures, training_items_of
from medqa_finetune.report.table import trains

# Characters of a label that `charts.base.short` shows in two lines, wherever they break.
SURELY_SHOWN = 21
# A name that was cut ends in a digest; a character that did not fit whole is left out, four bytes at most.
DIGEST, CHARACTER_BYTES = re.compile(r"[0-9a-f]{8}"), 4
PLACE = ["task", "model", "corpus", "study"]
# Parts of a run's name that a picture shows otherwise: as an axis, a dot or a panel.
SHOWN_OTHERWISE = ("seed=", "model=", "corpus=", "data.train_size=")
CHINESE_FONTS = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC",
                 "SimHei")  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Runs that compare: same task, model, corpus, study, test set, evaluation and signatures.

    Attributes:
        title: Model, corpus, study and n, in words.
        caption: What a reader must know beside it: test set, signatures, missing cells, seeds.
        rows: Rows of the table; `entry` is the method, with the settings that set a run apart from the others.
    """

    title: str
    caption: str
    rows: pd.DataFrame

    @property
    def tuned(self) -> pd.DataFrame:
        """Done runs that trained something."""
        return _done(self.rows[self.rows["train_size"] > 0])

    @property
    def base(self) -> pd.DataFrame:
        """Done runs of the untuned base."""
        return _done(self.rows[self.rows["train_size"] == 0])

    @property
    def sizes(self) -> list[int]:
        """Training sizes that were asked for, in pairs, rising."""
        return sorted({int(size) for size in self.rows["train_size"] if size > 0})

    @property
    def scores(self) -> list[ScoreInfo]:
        """Headline scores that runs have; those of answers where there is none."""
        found = [score for score in headlines() if score.name in self.rows and self.rows[score.name].notna().any()]
        return found or [score for score in headlines() if not score.running_text][:2]

    @property
    def training_items(self) -> str:
        """What training sets are counted in, as it stands at an axis."""
        return training_items(self.scores[0])

    @property
    def entries(self) -> list[str]:
        """Names in the legend, one per method or variant that was asked for."""
        return sorted(set(self.rows.loc[self.rows["train_size"] > 0, "entry"]))


def groups_of(frame: pd.DataFrame) -> list[Group]:
    """Split a table into groups that compare; a group without a done tuned run is left out.

    A run that is not done has no test set yet and goes to the first group of its task, model, corpus, study and
    evaluation, or of the first evaluation where none has begun. Of records with one identity and evaluation in one
    study, copies of each other, the first done one counts.
    """
    rows = frame[frame["method"].notna() & frame["train_size"].notna()].copy()
    rows[PLACE] = pd.DataFrame({key: _texts(rows, key) for key in PLACE}, index=rows.index)
    rows["test_sha256"] = _texts(rows, "test_sha256")
    rows["n_test"] = rows["n_test"].fillna(0).astype(int)
    rows = rows.sort_values("status", key=lambda status: status != "done", kind="stable")
    rows["evaluation_identity"] = _texts(rows, "evaluation_identity")
    rows["evaluated"] = _evaluated(rows)
    rows = rows.drop_duplicates(["study", "identity", "evaluation_identity"]).sort_index()
    places = rows.groupby([*PLACE, "evaluated"], sort=True)
    return [group for _, placed in places for group in _groups_of_place(placed)]


def _evaluated(rows: pd.DataFrame) -> list[str]:
    """Return by what rows are grouped: their evaluation, the default one first; those without take that of others."""
    keys = [
        f"{evaluation_shown(name)}\0{identity}" if identity else None
        for name, identity in zip(_texts(rows, "evaluation"), rows["evaluation_identity"], strict=True)
    ]
    first: dict[tuple[str, ...], str] = {}
    places = list(rows[PLACE].itertuples(index=False, name=None))
    for place, key in sorted(zip(places, keys, strict=True), key=lambda pair: pair[1] or ""):
        if key is not None:
            first.setdefault(place, key)
    return [key if key is not None else first.get(place, "") for place, key in zip(places, keys, strict=True)]


def _groups_of_place(placed: pd.DataFrame) -> list[Group]:
    done, waiting = _done(placed), placed[placed["status"] != "done"]
    rows_of = done.sort_values(["test_sha256", "n_test"], kind="stable").reset_index(names="row").to_dict("records")
    found = parts_that_compare(rows_of, lambda row: basis_of(row, headline_columns()))
    parts = [done.loc[[row["row"] for row in part]].sort_index() for part in found]
    drawn = [part for part in parts if (part["train_size"] > 0).any()]
    left_out = [name for part in parts if not (part["train_size"] > 0).any() for name in part["name"]]
    groups = []
    for place, part in enumerate(drawn):
        rows = pd.concat([part, waiting]) if place == 0 and len(waiting) else part
        rows = rows.assign(entry=_entries(rows))
        groups.append(Group(_title(part, several=len(drawn) > 1), _caption(rows, left_out), rows))
    return groups


def _entries(rows: pd.DataFrame) -> list[str]:
    parts = [[part for part in _parts(str(name)) if not part.startswith(SHOWN_OTHERWISE)] for name in rows["name"]]
    tuned = [own for own, row in zip(parts, rows.to_dict("records"), strict=True) if trains(row)]
    common = Counter(part for own in tuned for part in set(own))
    entries = []
    for method, own in zip(rows["method"], parts, strict=True):
        # What few runs have stands first: a legend may have no room for the rest.
        apart = sorted((part for part in own if common[part] < len(tuned)), key=lambda part: common[part])
        entries.append(plain(method) + (f" ({', '.join(plain(part) for part in apart)})" if apart else ""))
    return _told_apart(entries)


def _parts(name: str) -> list[str]:
    """Return the settings in a run's name; of one that was cut, its digest in the place of what was cut through."""
    # From the right: what was cut through may end in half of a separator.
    head, _, digest = name.rpartition("__")
    if len(name.encode("utf-8", "replace")) >= FOLDER_NAME_BYTES - CHARACTER_BYTES and DIGEST.fullmatch(digest):
        return [*head.split("__")[1:-1], f"#{digest}"]
    return name.split("__")[1:]


def _told_apart(entries: list[str]) -> list[str]:
    """Number those whose beginning, all that a legend surely shows, is the same."""
    alike: dict[str, list[str]] = {}
    for entry in sorted(set(entries)):
        alike.setdefault(entry[:SURELY_SHOWN], []).append(entry)
    numbered = {
        entry: entry.replace(" (", f" {number} (", 1)
        for group in alike.values()
        if len(group) > 1
        for number, entry in enumerate(group, start=1)
    }
    return [numbered.get(entry, entry) for entry in entries]


def _title(part: pd.DataFrame, several: bool) -> str:
    first = part.iloc[0]
    study = f", study {plain(first['study'])}" if first["study"] else ""
    test_set = f", test set {first['test_sha256'][:8] or 'unknown'}" if several else ""
    shown = evaluation_shown(first["evaluation"])
    test_set += f", {plain(shown)}" if shown else ""
    return f"{plain(first['model'])} on {plain(first['corpus'])}{study}{test_set} (n = {first['n_test']:,})"


def _caption(rows: pd.DataFrame, left_out: list[str]) -> str:
    first = _done(rows).iloc[0]
    items = "blocks" if first["task"] == "text" else "questions"
    lines = [f"n = {first['n_test']:,} test {items}, the same for every run (set {first['test_sha256'][:8]})."]
    known = {score: own for cell in _done(rows)["signature"] for score, own in signatures(cell).items()}
    lines += [f"{known[score]}." for score in headline_columns() if score in known]
    tuned = _done(rows[rows["train_size"] > 0])
    seeds = tuned.groupby(["entry", "train_size"]).size().max()
    lines.append("Mean over seeds, each seed a dot." if seeds > 1 else "One seed per cell: no error bars.")
    waiting = [
        f"{name} ({status})" for name, status in zip(rows["name"], rows["status"], strict=True) if status != "done"
    ]
    lines.append("× marks a cell that is missing" + (f": {_some(waiting)}." if waiting else ".") if _gaps(rows) else "")
    if left_out:
        lines.append(f"Not shown, for test set or signature differ: {_some(left_out)}.")
    return " ".join(filter(None, lines))


def _gaps(rows: pd.DataFrame) -> bool:
    asked = rows[rows["train_size"] > 0]
    cells = asked["entry"].nunique() * asked["train_size"].nunique()
    return len(_done(asked).drop_duplicates(["entry", "train_size"])) < cells


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(plain(name) for name in names[:6]) + more


def _done(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["status"] == "done"]


def _texts(rows: pd.DataFrame, column: str) -> list[str]:
    return [cell if isinstance(cell, str) else "" for cell in rows[column]]


def training_items(score: ScoreInfo) -> str:
    """Return what training sets of runs with a score are counted in, as it stands at an axis."""
    return f"Training {training_items_of(score)}"


def compact(size: int) -> str:
    """Return a number of pairs as a short label: 20000 is `20k`, 1500 is `1.5k`, 120 is `120`."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return str(size)


def plain(text: str) -> str:
    """Return a name as a picture can show it: no formulas, and no characters that no font here has."""
    if _chinese_font() is None:
        text = text.encode("ascii", "backslashreplace").decode()
    return text.replace("$", r"\$")


def fonts() -> list[str]:
    """Return font families for the pictures: the default one, then one with Chinese if this machine has any."""
    chinese = _chinese_font()
    return ["DejaVu Sans", *([chinese] if chinese else [])]


@cache
def _chinese_font() -> str | None:
    installed = set(font_manager.get_font_names())
    return next((name for name in CHINESE_FONTS if name in installed), None)
