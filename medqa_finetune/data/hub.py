"""Public data sets: downloaded once into their own folder by the client of their hub, and read from there.

Files are fetched unchanged, at a pinned commit, and read by `data/readers.py`. `datasets.load_dataset` is not used: one
torn row fails the whole file, it reports no line numbers, and it converts `001` to 1 and `NA` to a missing value.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from medqa_finetune.config.hubs import other_ways
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.readers import FORMAT_OF_SUFFIX, format_of, matches
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.files import write_json, write_text

logger = logging.getLogger(__name__)

MARKER = ".complete.json"
UNFINISHED = ".downloading"


def hub_folder(corpus: CorpusConfig) -> Path:
    """Return the folder of a data set's files: `corpus.path`, or `data/<name>` below the working folder."""
    return Path(corpus.path).expanduser() if corpus.path else Path("data") / corpus.name


def is_own_folder(corpus: CorpusConfig, folder: Path) -> bool:
    """Return whether a folder that the user named contains the user's own files and no download, partial or not."""
    marked = (folder / MARKER).exists() or (folder / UNFINISHED).exists()
    return corpus.path is not None and folder.exists() and not marked and bool(missing_files(corpus, folder))


def ensure_files(corpus: CorpusConfig, folder: Path) -> None:
    """Download a data set unless its files are there already.

    Raises:
        DataError: it cannot be downloaded, or `corpus.files` names a format that is not plain data.
    """
    check_patterns(corpus)
    if is_complete(corpus, folder):
        return
    # Files added by hand have no marker; an interrupted download leaves its own marker.
    if not (folder / MARKER).exists() and not (folder / UNFINISHED).exists() and not missing_files(corpus, folder):
        return
    fetch(corpus, folder)


def fetch(corpus: CorpusConfig, folder: Path) -> None:
    """Download a data set's files; the hub's client resumes an interrupted download.

    Raises:
        DataError: the hub cannot be reached, or lacks the data set or the files of `corpus.files`.
    """
    check_patterns(corpus)
    download = _downloads().get(corpus.hub)
    if download is None:
        allowed = tuple(_downloads())
        raise DataError(
            Fault("not-allowed", "must be one of the hubs", key="corpus.hub", got=corpus.hub, allowed=allowed)
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / UNFINISHED, f"{corpus.repository}\n")
        logger.info("Fetching %s from %s into %s", corpus.repository, corpus.hub, folder)
        commit = download(corpus, folder)
    except DataError:
        raise
    except Exception as error:  # the hubs' clients let errors of their network layers pass
        raise DataError(
            Fault(
                "fetch-failed",
                f"cannot be fetched from {corpus.hub}: {_first_line(error)}",
                key="corpus.repository",
                got=corpus.repository,
                file=str(folder),
                hint=f"The same command continues where it stopped. {other_ways(corpus.hub, 'corpus.hub')} Or put the "
                "files into that folder by hand.",
            )
        ) from error
    missing = missing_files(corpus, folder)
    if missing:
        raise DataError(
            Fault(
                "file-missing",
                f"{corpus.repository} at revision {corpus.revision} has no such file",
                key="corpus.files",
                got=missing,
                hint="Look at the data set's files and give corpus.files=[…].",
            )
        )
    write_json(folder / MARKER, _marker(corpus, folder, commit))
    (folder / UNFINISHED).unlink(missing_ok=True)


def is_complete(corpus: CorpusConfig, folder: Path) -> bool:
    """Return whether a folder has a finished download of this data set and revision, with unchanged sizes."""
    try:
        marker = json.loads((folder / MARKER).read_text("utf-8"))
        # The hub is not compared: the data set is the same from either.
        fetched = [marker["repository"], modelscope_revision(marker["revision"]), marker["patterns"]]
        sizes = {name: (folder / name).stat().st_size for name in marker["files"]}
        configured = [corpus.repository, modelscope_revision(corpus.revision), list(corpus.files)]
        return fetched == configured and sizes == marker["files"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def missing_files(corpus: CorpusConfig, folder: Path) -> list[str]:
    """Return the names of `corpus.files` that a folder lacks; the patterns only if no file matches any of them."""
    names = list(_data_files(corpus, folder))
    plain = [pattern for pattern in corpus.files if not set(pattern) & set("*?[")]
    lacking = [name for name in plain if name not in names]
    return lacking or ([] if names else list(corpus.files))


def check_patterns(corpus: CorpusConfig) -> None:
    """Check that the files to download are plain data.

    Raises:
        DataError: no repository or no files are named, or a pattern names other formats (scripts, pickles).
    """
    if not corpus.repository:
        raise DataError(
            Fault(
                "missing-key",
                "is missing; corpus.source=hub needs it",
                key="corpus.repository",
                hint="Give corpus.repository=owner/name.",
            )
        )
    known = tuple(FORMAT_OF_SUFFIX)
    if not corpus.files:
        raise DataError(
            Fault(
                "missing-key",
                "is empty",
                key="corpus.files",
                hint=f"Name the files of {corpus.repository} to read ({', '.join(known)}).",
            )
        )
    for pattern in corpus.files:
        if not format_of(pattern) or ".." in Path(pattern).parts or Path(pattern).is_absolute():
            raise DataError(
                Fault(
                    "not-allowed",
                    "only data files are read, never scripts or pickles",
                    key="corpus.files",
                    got=pattern,
                    allowed=known,
                )
            )


def _downloads() -> dict[str, Callable[[CorpusConfig, Path], str | None]]:
    """Return the download function of each hub; it returns the commit that was fetched, None if unknown."""
    return {"huggingface": _from_huggingface, "modelscope": _from_modelscope}


def _from_huggingface(corpus: CorpusConfig, folder: Path) -> str | None:
    from huggingface_hub import HfApi, snapshot_download

    # Called first: without a network, snapshot_download silently returns a partial folder.
    info = HfApi().dataset_info(str(corpus.repository), revision=huggingface_revision(corpus.revision))
    snapshot_download(
        str(corpus.repository),
        repo_type="dataset",
        revision=info.sha,
        allow_patterns=list(corpus.files),
        local_dir=folder,
    )
    expected = [file.rfilename for file in info.siblings or [] if matches(file.rfilename, corpus.files)]
    lost = [name for name in expected if not (folder / name).is_file()]
    if lost:
        raise OSError(f"{lost[0]} did not arrive ({len(lost)} of {len(expected)} files)")
    return info.sha


def _from_modelscope(corpus: CorpusConfig, folder: Path) -> str | None:
    try:
        from modelscope import dataset_snapshot_download
    except ImportError:
        raise DataError(
            Fault(
                "not-installed",
                f"the library that fetches {corpus.repository} is not installed",
                key="corpus.hub",
                got=corpus.hub,
                hint="Run `pip install 'medqa-finetune[modelscope]'`.",
            )
        ) from None
    dataset_snapshot_download(
        corpus.repository,
        revision=modelscope_revision(corpus.revision),
        allow_patterns=list(corpus.files),
        local_dir=str(folder),
    )
    return None


def modelscope_revision(revision: str) -> str:
    """Return a revision as ModelScope names it: its main branch is `master`."""
    return "master" if revision == "main" else revision


def huggingface_revision(revision: str) -> str:
    """Return a revision as Hugging Face names it: its main branch is `main`."""
    return "main" if revision == "master" else revision


def _data_files(corpus: CorpusConfig, folder: Path) -> dict[str, int]:
    """Return the files below a folder that match `corpus.files`, with their sizes in bytes."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: path.stat().st_size
        for name, path in found.items()
        if not name.startswith(".") and matches(name, corpus.files)
    }


def _marker(corpus: CorpusConfig, folder: Path, commit: str | None) -> dict[str, object]:
    return {
        "repository": corpus.repository,
        "hub": corpus.hub,
        "revision": corpus.revision,
        "resolved_revision": commit,
        "patterns": list(corpus.files),
        "files": _data_files(corpus, folder),
    }


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no more is known'}"[:300]
