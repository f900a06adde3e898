"""Short names of runs and cells for readers: method, size, and settings in which they differ (`LoRA n300 lr 1e-4`).

Names of folders spell out every setting that is not a default; labels leave out what all runs that train share.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medqa_finetune.config.folder_names import is_shortened, setting_in_name
from medqa_finetune.config.identity import flatten
from medqa_finetune.config.labels import as_typed, method_label, setting_label
from medqa_finetune.config.size_names import size_name
from medqa_finetune.report.runs import Run, settings_of

# Parts of a run's name that are shown as an axis, a dot, a panel or the size.
SHOWN_OTHERWISE = ("seed=", "model=", "corpus=", "data.train_size=", "data.scale=")
# Settings in a record that tell of the size, and of files, which have names of their own.
SIZES_AND_FILES = frozenset(
    ("data.effective_train_size", "data.effective_validations", "corpus.sha256", "model.fingerprint", "results_version")
)
# Beginnings that are equal up to here would be cut to the same in a legend.
SURELY_SHOWN = 21
SEED_IN_NAME = re.compile(r"__seed=-?\d+(?=__|$)")


@dataclass(frozen=True)
class Label:
    """What a run's cell is called.

    Attributes:
        entry: Its method, with the settings in which it differs from other runs, e.g. `LoRA lr 1e-4`.
        short: The same with its size, `LoRA n300 lr 1e-4`; unique among the cells of a study, corpus and model.
        whole: Unique among all cells: with the model, study or corpus, where these are needed.
    """

    entry: str
    short: str
    whole: str


def labels_of(runs: Sequence[Run], cells: Sequence[str | None]) -> list[Label]:
    """Return the label of every run, in order; runs of one cell share it.

    Args:
        runs: Runs of any studies, done or not.
        cells: Name of each run's cell; None for one that has none yet.
    """
    keys = [cell or SEED_IN_NAME.sub("", run.place) for run, cell in zip(runs, cells, strict=True)]
    scopes: dict[tuple[str, ...], list[int]] = {}
    for place, run in enumerate(runs):
        scopes.setdefault(_scope(run), []).append(place)
    entries, short = [""] * len(runs), [""] * len(runs)
    for places in scopes.values():
        for place, (method, settings) in zip(places, _entries([runs[place] for place in places]), strict=True):
            run = runs[place]
            size = run.values.get("train_size")
            data = size_name(str(run.values.get("data") or ""), size) if size != 0 else ""
            entries[place] = " ".join(filter(None, (method, settings)))
            short[place] = " ".join(filter(None, (method, data, settings)))
        own = {place: (short[place], str(runs[place].values.get("model"))) for place in places}
        for place in _doubtful(own, keys):
            short[place] = keys[place].rpartition("/")[2]
    whole = dict(enumerate(short))
    for column in ("model", "study", "corpus"):
        doubtful = _doubtful(whole, keys)
        values: dict[str, set[object]] = {}
        for place in doubtful:
            values.setdefault(whole[place], set()).add(runs[place].values.get(column))
        apart = [place for place in doubtful if len(values[whole[place]]) > 1]
        for place in apart:
            whole[place] += f" ({runs[place].values.get(column) or '.'})"
    for place in _doubtful(whole, keys):
        whole[place] = keys[place]
    return [Label(*parts) for parts in zip(entries, short, whole.values(), strict=True)]


def _scope(run: Run) -> tuple[str, ...]:
    return (run.study, *(str(run.values.get(column) or "") for column in ("corpus", "task")))


def _doubtful(labels: Mapping[int, object], keys: Sequence[str]) -> list[int]:
    """Return the places whose label another cell has as well."""
    cells: dict[object, set[str]] = {}
    for place, label in labels.items():
        cells.setdefault(label, set()).add(keys[place])
    return [place for place, label in labels.items() if len(cells[label]) > 1]


def _entries(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return each run's method, and the settings in which it differs from other runs, rare ones first."""
    parts = _apart(runs)
    keys = {part.partition("=")[0] for own in parts for part in own if "=" in part}
    shared = Counter(map(setting_label, keys))
    values = {part: as_typed(part.partition("=")[2]) for own in parts for part in own}
    # Values that are rounded to the same text are shown whole.
    rounded = Counter((part.partition("=")[0], value) for part, value in values.items())

    def said(part: str) -> str:
        key, equals, value = part.partition("=")
        if not equals:
            return part
        name = setting_label(key) if shared[setting_label(key)] == 1 else key
        return f"{name} {values[part] if rounded[key, values[part]] == 1 else value}"

    methods = [method_label(str(run.values.get("method") or run.name)) for run in runs]
    return _numbered([(method, " ".join(map(said, own))) for method, own in zip(methods, parts, strict=True)])


def _apart(runs: Sequence[Run]) -> list[list[str]]:
    """Return each run's `key=value` parts that not all runs that train share."""
    parts = [[part for part in own if not part.startswith(SHOWN_OTHERWISE)] for own in _whole_parts(runs)]
    tuned = [own for own, run in zip(parts, runs, strict=True) if run.trains]
    common = Counter(part for own in tuned for part in set(own))
    apart = [
        sorted((part for part in own if common[part] < len(tuned)), key=lambda part: common[part]) for own in parts
    ]
    varied: dict[object, set[str]] = {}
    for run, own in zip(runs, apart, strict=True):
        varied.setdefault(run.values.get("method"), set()).update(part.partition("=")[0] for part in own if "=" in part)
    for run, own in zip(runs, apart, strict=True):
        if run.trains and run.record is not None:
            # The default of a setting that other runs vary is not in the name; another evaluation renames nothing.
            settings = flatten(run.record.config)
            lacking = varied[run.values.get("method")] - {part.partition("=")[0] for part in own}
            own += [
                f"{key}={settings[key]}"
                for key in sorted(lacking)
                if key in settings and not key.startswith("evaluate.")
            ]
    return apart


def _whole_parts(runs: Sequence[Run]) -> list[list[str]]:
    """Return the `key=value` parts of the runs' names; what a shortened name lacks is taken from its record."""
    parts, settings = [], []
    for run in runs:
        name = run.name if run.record is None else run.record.name
        settings.append(None if run.record is None or not is_shortened(name) else settings_of(run.record))
        # Those of another evaluation stand behind the run's name.
        others = [part for part in run.name.split("__") if part.startswith("evaluate.")]
        parts.append(parts_of(run.name) if settings[-1] is None else [*parts_of(name), *others])
    keys = {part.partition("=")[0] for own in parts for part in own if "=" in part}
    for method in {run.values.get("method") for run in runs}:
        alike = [own for own, run in zip(settings, runs, strict=True) if own and run.values.get("method") == method]
        keys |= {key for own in alike for key in own if len({str(each.get(key)) for each in alike}) > 1}
    for own, known in zip(parts, settings, strict=True):
        if known is not None:
            there = {part.partition("=")[0] for part in own}
            lacking = sorted((keys & known.keys()) - there - SIZES_AND_FILES)
            own[:] = [part for part in own if not part.startswith("#")]
            own += [setting_in_name(key, known[key]) for key in lacking]
    return parts


def parts_of(name: str) -> list[str]:
    """Return the settings in a run's name; in a shortened name, the digest replaces the truncated part."""
    if not is_shortened(name):
        return name.split("__")[1:]
    # From the right, since the truncated part may end in half of a separator.
    head, _, digest = name.rpartition("__")
    return [*head.split("__")[1:-1], f"#{digest}"]


def in_reading_order(label: str) -> tuple[tuple[float, str], ...]:
    """Return a sort key by which numbers in labels go by their value: `lr 3e-4` before `lr 1e-3`."""
    return tuple((_as_number(word), word) for word in label.split())


def _as_number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return -float("inf")


def _numbered(entries: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Number entries whose beginning, which is all that a legend always shows, is the same."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for entry in sorted(set(entries)):
        alike.setdefault(" ".join(entry)[:SURELY_SHOWN], []).append(entry)
    numbered = {
        entry: (entry[0], f"#{number} {entry[1]}".strip())
        for group in alike.values()
        if len(group) > 1
        for number, entry in enumerate(group, start=1)
    }
    return [numbered.get(entry, entry) for entry in entries]
