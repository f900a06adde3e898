"""A run folder and its copy at the storage: which of the two is newer, and how each is made from the other.

A copy is as good as a folder that a kill left: files are stored in the order in which a run writes them, records last,
with the content that these had before any other file was read. Checkpoints and weights are verified by hashes of their
own when they are used.
"""

import dataclasses
import hashlib
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from medqa_finetune.config.schema import Config
from medqa_finetune.errors import Fault, RunError
from medqa_finetune.record.evaluation_dir import RECORD_NAME as EVALUATION_RECORD_NAME
from medqa_finetune.record.files import TEMPORARY_PREFIX, sha256_of, write_json
from medqa_finetune.record.run_dir import EXPORT_NAME, RECORD_NAME, RunDir
from medqa_finetune.record.schema import FileStamp
from medqa_finetune.storage.remote import STREAMED_BYTES, Remote

log = logging.getLogger(__name__)

MANIFEST = ".stored.json"
OWNER = ".owner.json"
OURS = (MANIFEST, OWNER)
# Models that can be exported again, and folders of trackers that have a server.
NOT_STORED = (EXPORT_NAME, "wandb", "swanlab")
RECORDS = (RECORD_NAME, EVALUATION_RECORD_NAME)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What is stored.

    Attributes:
        state: Random name of this state; another one whenever something was stored.
        files: Size and sha256 of every file, by path relative to the run's folder.
    """

    state: str
    files: dict[str, FileStamp]


@dataclasses.dataclass(frozen=True)
class LocalFile:
    """A file of the run folder when it was last equal to the stored one.

    Attributes:
        stamp: Size and sha256.
        changed: Time of its last change on this machine, in nanoseconds.
    """

    stamp: FileStamp
    changed: int


@dataclasses.dataclass(frozen=True)
class Marker:
    """What folder and storage last had in common; a file next to the folder.

    Attributes:
        storage: Place of the copy.
        state: Name of that state.
        files: Its files, by path relative to the run's folder.
    """

    storage: str
    state: str = ""
    files: dict[str, LocalFile] = dataclasses.field(default_factory=dict)


MANIFESTS, MARKERS = TypeAdapter(Manifest), TypeAdapter(Marker)


def synced_run(config: Config) -> "SyncedRun | None":
    """Return the run of a configuration with its copy at the storage; None where no storage is set.

    Raises:
        ConfigError: there is no such kind of storage, or its package is missing.
    """
    if config.storage is None:
        return None
    name = "/".join((*Path(config.study).parts, config.run_name))
    return SyncedRun(RunDir(config.run_path), Remote(config.storage, name))


class SyncedRun:
    """A run folder and its copy.

    Args:
        run: The run.
        remote: The copy's place.
    """

    def __init__(self, run: RunDir, remote: Remote) -> None:
        self.run = run
        self.remote = remote

    @property
    def _marker_path(self) -> Path:
        # Next to the folder, like the lock, since the folder may be moved aside.
        path = self.run.path.absolute()
        return path.parent / f".{path.name}.storage.json"

    def marker(self) -> Marker:
        """Return what folder and storage last had in common; nothing where that is not known."""
        try:
            found = MARKERS.validate_json(self._marker_path.read_bytes())
        except (OSError, ValidationError):
            return Marker(str(self.remote))
        return found if found.storage == str(self.remote) else Marker(str(self.remote))

    def stored(self) -> Manifest | None:
        """Return what is stored; None where nothing is.

        Raises:
            RunError: the storage does not answer, or its manifest cannot be read.
        """
        content = self.remote.read(MANIFEST)
        if content is None:
            return None
        try:
            return MANIFESTS.validate_json(content)
        except ValidationError:
            hint = "Another program has changed it; remove the folder there, or give another storage."
            fault = Fault("not-a-manifest", "cannot be read", file=f"{self.remote}/{MANIFEST}", hint=hint)
            raise RunError(fault) from None

    def is_behind(self) -> bool:
        """Return whether the storage has a state that this folder does not come from.

        Raises:
            RunError: the storage does not answer.
        """
        stored = self.stored()
        if stored is None:
            return False
        return stored.state != self.marker().state or not self.run.record_path.is_file()

    def is_ahead(self) -> bool:
        """Return whether the folder has changed since it was last stored, or was never stored."""
        known = self.marker().files
        return any(_is_changed(self.run.path / name, known.get(name)) for name in self._local_names())

    def fetch(self) -> None:
        """Make the folder what is stored. What it has that was never stored is kept aside.

        The caller holds the run's lock.

        Raises:
            RunError: the storage does not answer; the folder is as it was.
        """
        stored = self.stored()
        if stored is None:
            return
        path = self.run.path.absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{TEMPORARY_PREFIX}{path.name}-"))
        fresh.chmod(0o755)
        try:
            files = dict(self._fetched(stored, fresh))
            if path.exists():
                self._make_room(path)
            fresh.rename(path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        self._mark(Marker(str(self.remote), stored.state, files))
        size = sum(file.stamp.size for file in files.values())
        log.info("%s: fetched %d files (%.1f MB) from %s", self.run.path, len(files), size / 1e6, self.remote)

    def _fetched(self, stored: Manifest, fresh: Path) -> Iterator[tuple[str, LocalFile]]:
        """Write every stored file into a new folder; yield names and what they are."""
        here, others = self.marker().files, []
        for name in self.remote.sizes():
            if name in OURS:
                continue
            stamp, file = stored.files.get(name), fresh / name
            known = here.get(name)
            if known is not None and known.stamp == stamp and not _is_changed(self.run.path / name, known):
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.run.path / name, file)
            else:
                self.remote.download(name, file)
            found = FileStamp(file.stat().st_size, sha256_of(file))
            if stamp is not None and found != stamp:
                others.append(name)
            yield name, LocalFile(found, file.stat().st_mtime_ns)
        if others:
            text = "%s: %d files are not as the last storing left them, as after a machine that was lost (%s)"
            log.warning(text, self.remote, len(others), ", ".join(others[:3]))

    def _make_room(self, path: Path) -> None:
        record = self.run.read()
        # A matrix writes a record of every cell before any of them starts.
        has_begun = record is None or record.status != "pending"
        if has_begun and self.is_ahead():
            aside = self.run.move_aside()
            log.warning("%s: the storage has a newer state; what was never stored is moved to %s", path, aside)
        else:
            shutil.rmtree(path)

    def store(self, state_before: str) -> str:
        """Store what has changed, and return the name of the new state; the earlier one where nothing has.

        Args:
            state_before: Name of the state that the storage has, which only the owner changes.

        Raises:
            RunError: the storage does not answer. What was stored is still what a kill may leave.
        """
        marker = self.marker()
        known = marker.files if marker.state == state_before else {}
        records = self._records()
        names = self._local_names()
        files: dict[str, LocalFile] = {}
        for name in names:
            if name in records:
                continue
            found = self._stored_file(name, known.get(name))
            if found is not None:
                files[name] = found
        for name, (content, changed) in records.items():
            stamp = FileStamp(len(content), hashlib.sha256(content).hexdigest())
            if name not in known or known[name].stamp != stamp:
                self.remote.write(name, content)
            files[name] = LocalFile(stamp, changed)
        gone = [name for name in known if name not in files]
        if gone or any(known.get(name) is None or known[name].stamp != each.stamp for name, each in files.items()):
            state = uuid.uuid4().hex
            stamps = {name: each.stamp for name, each in sorted(files.items())}
            self.remote.write(MANIFEST, MANIFESTS.dump_json(Manifest(state, stamps), indent=1))
            self._mark(Marker(str(self.remote), state, files))
            self.remote.remove(gone)
            return state
        self._mark(Marker(str(self.remote), state_before, files))
        return state_before

    def _stored_file(self, name: str, known: LocalFile | None) -> LocalFile | None:
        """Store a file if it has changed; return what it is now, None if it is gone in the meantime."""
        path = self.run.path / name
        try:
            if not _is_changed(path, known):
                return known
            changed, size = path.stat().st_mtime_ns, path.stat().st_size
            if size <= STREAMED_BYTES:
                content = path.read_bytes()
                stamp = FileStamp(len(content), hashlib.sha256(content).hexdigest())
                if known is None or known.stamp != stamp:
                    self.remote.write(name, content)
            else:
                stamp = FileStamp(size, sha256_of(path))
                if known is None or known.stamp != stamp:
                    self.remote.upload(path, name)
        except FileNotFoundError:
            return None
        return LocalFile(stamp, changed)

    def _records(self) -> dict[str, tuple[bytes, int]]:
        """Return content and time of all records at one moment, evaluations first and the run's own last."""
        while True:
            found = self._read_records()
            # The moment of the last reading is one at which all of them were so.
            if found == self._read_records():
                return found

    def _read_records(self) -> dict[str, tuple[bytes, int]]:
        paths = [self.run.path / name for name in self._local_names() if Path(name).name in RECORDS]
        paths.sort(key=lambda path: (path == self.run.record_path, path))
        found = {}
        for path in paths:
            try:
                changed = path.stat().st_mtime_ns
                found[path.relative_to(self.run.path).as_posix()] = (path.read_bytes(), changed)
            except FileNotFoundError:
                continue
        return found

    def _local_names(self) -> list[str]:
        """Return the paths of files that are stored, relative to the folder, sorted."""
        found = []
        for folder, folders, names in os.walk(self.run.path):
            inside = Path(folder).relative_to(self.run.path)
            at_top = inside == Path()
            folders[:] = [
                each for each in folders if not _is_left_out(each) and not (at_top and each in NOT_STORED)
            ]  # fmt: skip
            found += [(inside / name).as_posix() for name in names if not _is_left_out(name)]
        return sorted(found)

    def adopt(self, state: str) -> None:
        """Take a state of the storage as the one that this folder replaces, as when it is overwritten."""
        self._mark(Marker(str(self.remote), state))

    def _mark(self, marker: Marker) -> None:
        write_json(self._marker_path, MARKERS.dump_python(marker, mode="json"))


def _is_changed(path: Path, known: LocalFile | None) -> bool:
    if known is None or not path.is_file():
        return True
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns) != (known.stamp.size, known.changed)


def _is_left_out(name: str) -> bool:
    # Locks and leases are about processes that work here.
    is_of_a_process = name.startswith(".") and (name.endswith(".lock") or ".lease" in name)
    return name.startswith(TEMPORARY_PREFIX) or is_of_a_process or name in OURS
