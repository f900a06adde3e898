"""Prepares an experiment's three sets: once for all training sizes, cached, and verified on every use."""

import json
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, NotRequired, TypedDict, TypeVar

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from medqa_finetune.config.schema import Config, CorpusConfig
from medqa_finetune.data.corpus import corpus_sha256, read_by_file, where
from medqa_finetune.data.identifying import say_alike
from medqa_finetune.data.parts import PARTS, published_parts, say_unkept
from medqa_finetune.data.published import divide_published, say_kept
from medqa_finetune.data.rows import Ledger
from medqa_finetune.data.splits import Division, Rows, SplitRules, divide
from medqa_finetune.data.tables import BATCH_ROWS, ExampleStore, ExampleTable, write_examples
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.files import replace_folder, sha256_of, sha256_of_text, sweep, write_json
from medqa_finetune.record.schema import DataManifest, SetManifest

logger = logging.getLogger(__name__)

# Increase with every change that alters the prepared data of given bytes: it is part of the cache key.
PREPARATION_VERSION = 2
MANIFEST, REJECTS = "manifest.json", "rejects.jsonl"
FILES = ("pool.arrow", "validation.arrow", "test.arrow", REJECTS)
# Settings that locate a corpus, or divide it, and do not change its examples.
PLACE_FIELDS = ("name", "source", "path", "repository", "hub", "revision", "files", "parts")
# Settings of running text alone.
TEXT_FIELDS = ("task", "text", "separator", "by_line")

# Folder below `outputs` that keeps prepared corpora.
CACHE_NAME = "cache"

# Wraps a stream of examples, whatever comes with each, to show progress.
Progress = Callable[[Iterable[Any]], Iterable[Any]]

Set = TypeVar("Set", bound=Sequence[object])


@dataclass(frozen=True)
class Splits(Generic[Set]):
    """The three sets of an experiment, of examples or of blocks of text, and their entry in the record."""

    train: Set
    validation: Set
    test: Set
    manifest: DataManifest


class Notes(TypedDict):
    """The `manifest.json` of a prepared corpus; its keys are part of the format."""

    key: str
    corpus_sha256: str
    version: int
    counts: dict[str, int]
    sets: dict[str, str]
    # Absent in caches of earlier versions.
    parts: NotRequired[dict[str, list[str]]]
    test_answers_first_seen: list[int]
    files: dict[str, dict[str, int | str]]


@dataclass(frozen=True)
class Prepared:
    """A prepared corpus, before a training size is chosen.

    Attributes:
        folder: Its folder in the cache.
        pool: All examples that may be trained on, in order.
        notes: The content of its `manifest.json`.
    """

    folder: Path
    pool: ExampleTable
    validation: ExampleTable
    test: ExampleTable
    notes: Notes


def prepare_splits(config: Config, cache: Path) -> Splits[ExampleTable]:
    """Return an experiment's training, validation and test set.

    Args:
        config: The experiment.
        cache: Folder that keeps prepared corpora; six cells of one matrix share one preparation.

    Raises:
        DataError: the corpus cannot be used, or has fewer examples than `data.train_size`.
    """
    return take_splits(prepare(config.corpus, rules_of(config), cache), config.train_size)


def rules_of(config: Config) -> SplitRules:
    """Return the split rules of a configuration."""
    data = config.data
    return SplitRules(config.test_size, config.validation_size, data.split_seed, data.near_duplicate_threshold)


def take_splits(prepared: Prepared, train_size: int | None) -> Splits[ExampleTable]:
    """Return the sets of a prepared corpus with the first `train_size` training examples; None takes all, 0 none.

    Raises:
        DataError: there are fewer.
    """
    notes, available = prepared.notes, len(prepared.pool)
    if available < (1 if train_size is None else train_size):
        held_out = len(prepared.validation) + len(prepared.test)
        raise DataError(_shortage({**notes["counts"], "held_out_questions": held_out}, train_size, available))
    train = prepared.pool.prefix(available if train_size is None else train_size)
    counts = dict(notes["counts"])
    counts["test_answers_seen_in_training"] = sum(place < len(train) for place in notes["test_answers_first_seen"])
    manifest = DataManifest(
        corpus_sha256=notes["corpus_sha256"],
        train=SetManifest(len(train), train.sha256),
        validation=SetManifest(len(prepared.validation), notes["sets"]["validation"]),
        test=SetManifest(len(prepared.test), notes["sets"]["test"]),
        counts=counts,
        parts=notes.get("parts", {}),
    )
    return Splits(train, prepared.validation, prepared.test, manifest)


def prepare(corpus: CorpusConfig, rules: SplitRules, cache: Path, progress: Progress = iter) -> Prepared:
    """Return a corpus divided by the rules, from the cache if it is there and undamaged.

    Two processes that need the same corpus prepare it once: the second waits for the first.

    Args:
        corpus: The corpus.
        rules: How it is divided.
        cache: Folder of prepared corpora; created if missing.
        progress: Wraps the stream of examples, to show progress.

    Raises:
        DataError: the corpus cannot be used, or the cache cannot be written.
    """
    corpus_hash, parts = corpus_sha256(corpus), published_parts(corpus)
    key = cache_key(corpus, rules, corpus_hash, parts)
    folder = cache / folder_name(key)
    try:
        with locked(cache / f".{folder.name}.lock"):
            sweep(cache, folder.name)
            fault = cache_fault(folder, key)
            if fault is not None and folder.exists():
                logger.warning("%s It is prepared again.", fault.line())
            if fault is not None:
                logger.info("Preparing %s", corpus.name)
                build = _Build(corpus, rules, progress, key, corpus_hash, parts)
                replace_folder(folder, build.fill)
                _warn_of_rejects(folder)
            prepared = _open(folder)
            _say_once(corpus, rules, prepared)
            return prepared
    except OSError as error:
        raise DataError(
            Fault(
                "not-writable",
                f"prepared data cannot be kept here: {error.strerror or error}",
                file=str(cache),
                hint="Give another folder with outputs=DIR (--cache in scripts).",
            )
        ) from error


def cache_key(
    corpus: CorpusConfig, rules: SplitRules, corpus_hash: str, parts: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return a hash of everything that determines the prepared data: bytes, columns, split; not the training size.

    Args:
        corpus: The corpus.
        rules: How it is divided.
        corpus_hash: `corpus_sha256`.
        parts: `published_parts`.
    """
    whole: dict[str, object] = {"pairs": examples_key(corpus, corpus_hash), "rules": asdict(rules)}
    if parts:
        whole["parts"] = parts
    return sha256_of_text(json.dumps(whole, sort_keys=True))


def folder_name(key: str) -> str:
    """Return the name of the folder of prepared data with a `cache_key`."""
    return f"corpus-{key[:16]}"


def examples_key(corpus: CorpusConfig, corpus_hash: str) -> str:
    """Return a hash of everything that determines the examples of a corpus."""
    # Without settings at their defaults: corpora prepared before a setting existed keep their key.
    usual = asdict(CorpusConfig())
    shape = {name: value for name, value in asdict(corpus).items() if value != usual[name]}
    shape = {name: value for name, value in shape.items() if name not in (*PLACE_FIELDS, *TEXT_FIELDS)}
    whole = {"version": PREPARATION_VERSION, "bytes": corpus_hash, "corpus": shape}
    return sha256_of_text(json.dumps(whole, sort_keys=True))


def cache_fault(folder: Path, key: str) -> Fault | None:
    """Return what is wrong with a prepared folder, or None if every byte is as it was written."""
    try:
        notes = json.loads((folder / MANIFEST).read_text("utf-8"))
        if notes["key"] != key:
            return _damaged(folder, f"{MANIFEST} is of another configuration")
        for name in FILES:
            path, expected = folder / name, notes["files"][name]
            if path.stat().st_size != expected["size"] or sha256_of(path) != expected["sha256"]:
                return _damaged(folder, f"{name} has changed")
    except FileNotFoundError as error:
        return _damaged(folder, f"{Path(str(error.filename)).name} is missing")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        return _damaged(folder, f"{MANIFEST} cannot be read ({type(error).__name__})")
    return None


def _damaged(folder: Path, what: str) -> Fault:
    return Fault("damaged", f"the prepared data is damaged: {what}", file=str(folder))


@dataclass(frozen=True)
class _Build:
    """One preparation: fills an empty folder."""

    corpus: CorpusConfig
    rules: SplitRules
    progress: Progress
    key: str
    corpus_sha256: str
    parts: Mapping[str, Sequence[str]]

    def fill(self, folder: Path) -> None:
        """Write the sets, the rejects, and last the manifest."""
        by, texts = self.corpus.identified_by, folder / "all.arrow"
        with (folder / REJECTS).open("wb") as rejects, ExampleStore(texts, by) as store:
            ledger = Ledger(rejects)
            files: dict[str, int] = {
                name: place for place, part in enumerate(PARTS) for name in self.parts.get(part, ())
            }
            of_rows = array("B")
            for file, example in self.progress(read_by_file(self.corpus, ledger)):
                store.add(example, self.rules.split_seed)
                of_rows.append(files.get(file, 0))
            if by == "system" and not ledger.counts["pairs_with_system"]:
                problem = "has no effect, since no example has a system prompt"
                hint = "Name the column of system prompts by corpus.system=COLUMN, or leave it out."
                raise DataError(Fault("conflict", problem, key="corpus.identified_by", got=by, hint=hint))
            division = self._divided(store, of_rows)
            for name in ("test", "validation", "pool"):
                write_examples(folder / f"{name}.arrow", _batches(store, getattr(division, name)), store.schema)
        texts.unlink()
        counts = dict(ledger.counts) | dict(division.counts) | dict(store.counts)
        logger.info("%s: %s", self.corpus.name, ", ".join(f"{name} {n:,}" for name, n in counts.items() if n))
        write_json(folder / MANIFEST, self._manifest(folder, division, counts))

    def _divided(self, store: ExampleStore, of_rows: "array[int]") -> Division:
        keys = store.finish()
        say_alike(self.corpus.name, store.counts)
        if not self.parts:
            return divide(keys, store.normalised, self.rules)
        parts = {
            part: np.flatnonzero(np.frombuffer(of_rows, np.uint8) == place)
            for place, part in enumerate(PARTS)
            if part in self.parts
        }
        for part, rows in parts.items():
            if not len(rows):
                raise DataError(
                    Fault(
                        "part-empty",
                        f"no row of the {part} part gives an example ({', '.join(self.parts[part][:6])})",
                        key="corpus.path",
                        file=where(self.corpus),
                        hint="Repair it, take it away, or give corpus.parts=ignore, which divides everything anew.",
                    )
                )
        division = divide_published(keys, store.normalised, self.rules, parts)
        division.counts.update({f"{part}_part_pairs": len(rows) for part, rows in parts.items()})
        return division

    def _manifest(self, folder: Path, division: Division, counts: dict[str, int]) -> Notes:
        files = {name: folder / name for name in FILES}
        return {
            "key": self.key,
            "corpus_sha256": self.corpus_sha256,
            "version": PREPARATION_VERSION,
            "counts": counts,
            "sets": {name: ExampleTable(folder / f"{name}.arrow").sha256 for name in ("validation", "test")},
            "test_answers_first_seen": division.test_answers_first_seen,
            "parts": {part: list(names) for part, names in self.parts.items()},
            "files": {name: {"size": p.stat().st_size, "sha256": sha256_of(p)} for name, p in files.items()},
        }


def _batches(store: ExampleStore, rows: Rows) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(rows), BATCH_ROWS):
        yield store.batch(rows[start : start + BATCH_ROWS])


def _open(folder: Path) -> Prepared:
    pool, validation, test = (ExampleTable(folder / name) for name in FILES[:3])
    return Prepared(folder, pool, validation, test, json.loads((folder / MANIFEST).read_text("utf-8")))


_said: set[tuple[str, str | None, str]] = set()


def _say_once(corpus: CorpusConfig, rules: SplitRules, prepared: Prepared) -> None:
    """Log what became of published parts, once per process, whether or not the data was prepared before."""
    notes = prepared.notes
    # Another setting, or the same files elsewhere, may come to the same data.
    seen = (notes["key"], corpus.path, corpus.parts)
    if seen in _said:
        return
    _said.add(seen)
    if parts := notes.get("parts"):
        say_kept(corpus.name, parts, notes["counts"], rules)
    else:
        say_unkept(corpus)


def _warn_of_rejects(folder: Path) -> None:
    """Log how many rows were left out, and the file that lists them."""
    counts = json.loads((folder / MANIFEST).read_text("utf-8"))["counts"]
    left_out = sum(n for name, n in counts.items() if name.startswith("rejected_"))
    if left_out:
        logger.warning(
            "%s of %s rows left out, each with its line and reason in %s",
            f"{left_out:,}",
            f"{counts['rows']:,}",
            folder / REJECTS,
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, creating its folder; if the block fails, remove the file and the folders created for it."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process is preparing this data; waiting for it.")
        lock.acquire()
    try:
        yield
    except BaseException:
        # Removed while it is held: a waiting process notices that, and creates a new one.
        path.unlink(missing_ok=True)
        raise
    finally:
        lock.release()
        with suppress(OSError):  # a folder that is not empty stays
            for folder in made:
                folder.rmdir()


def _shortage(counts: dict[str, int], train_size: int | None, available: int) -> Fault:
    left_out = [
        f"{name.replace('_', ' ')} {n:,}"
        for name, n in counts.items()
        if n and name.startswith(("rejected_", "exact_", "other_", "training_pairs_", "held_out_"))
    ]
    alike = counts.get("other_answers_to_held_out_questions", 0) > available
    other = "another corpus" + (
        ", or corpus.identified_by=prompt, which tells examples with the same first question apart" if alike else ""
    )
    return Fault(
        "corpus-too-small",
        f"is more, after scaling, than the {available:,} training examples that the corpus leaves "
        f"(of {counts['rows']:,} rows; left out: {', '.join(left_out) or 'nothing'})",
        key="data.train_size",
        got=train_size or 1,
        hint=f"Ask for {available:,} or less: data.train_size={available} (before data.scale=), data=all for all of "
        f"them, or {other}."
        if available
        else f"Give {other}.",
    )
