"""A folder at a URL (S3 and other object stores, SSH, a mounted folder), by fsspec."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medqa_finetune.compat.failures import words_of
from medqa_finetune.errors import ConfigError, Fault, RunError
from medqa_finetune.record.files import TEMPORARY_PREFIX

KEY = "storage"
# An upload to these is there as a whole or not at all; elsewhere a file is written under another name and renamed.
WHOLE_UPLOADS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "tos", "hf", "memory"}
# Larger files are streamed; smaller ones are read first, so that one that grows at the moment has one state.
STREAMED_BYTES = 32 * 2**20


class Remote:
    """The folder of one run at the storage.

    Args:
        url: The storage's URL, or a folder.
        name: Path of the run's folder in it.

    Raises:
        ConfigError: no such kind of storage is known, or its package is missing.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._system, root = _opened(url)
        protocol = self._system.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self.root = f"{root.rstrip('/')}/{name}"

    def __str__(self) -> str:
        return self._system.unstrip_protocol(self.root) if "file" not in self._protocols else self.root

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every file, by path relative to the folder; empty where there is none.

        Raises:
            RunError: the storage does not answer.
        """
        with self._talking():
            try:
                found = self._system.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
        names = {path.removeprefix(f"{self.root}/"): int(info["size"]) for path, info in found.items()}
        return {name: size for name, size in names.items() if not _is_temporary(name) and name != self.root}

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where it is missing.

        Raises:
            RunError: the storage does not answer.
        """
        with self._talking():
            try:
                content: bytes = self._system.cat_file(self._path(name))
            except FileNotFoundError:
                return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file, as a whole or not at all.

        Raises:
            RunError: the storage does not take it.
        """
        with self._talking(), self._whole(name) as path:
            self._system.pipe_file(path, content)

    def upload(self, file: Path, name: str) -> None:
        """Write a large file that does not change, as a whole or not at all.

        Raises:
            RunError: the storage does not take it.
        """
        with self._talking(), self._whole(name) as path:
            self._system.put_file(str(file), path)

    def download(self, name: str, file: Path) -> None:
        """Write a file of the storage to `file`, whose folder is made.

        Raises:
            RunError: the storage does not answer.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._talking():
            self._system.get_file(self._path(name), str(file))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are missing already do not matter.

        Raises:
            RunError: the storage does not answer.
        """
        with self._talking():
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self._system.rm_file(self._path(name))
        if "file" in self._protocols:
            _remove_empty_folders(Path(self.root))

    def move_aside(self) -> str:
        """Move the folder to the first free `<name>.old-N`, and return that. Nothing is deleted.

        Raises:
            RunError: the storage does not answer.
        """
        with self._talking():
            number = next(number for number in range(1, 10**6) if not self._system.exists(f"{self.root}.old-{number}"))
            aside = f"{self.root}.old-{number}"
            for name in self.sizes():
                target = f"{aside}/{name}"
                self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._system.mv(self._path(name), target)
        if "file" in self._protocols:
            shutil.rmtree(self.root, ignore_errors=True)
        return aside

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextlib.contextmanager
    def _whole(self, name: str) -> Iterator[str]:
        """Yield the path to write to; where an upload may be seen half done, another one, renamed at the end."""
        path = self._path(name)
        if self._protocols & WHOLE_UPLOADS:
            yield path
            return
        folder, _, last = path.rpartition("/")
        self._system.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/{TEMPORARY_PREFIX}{last}-{os.getpid()}"
        yield temporary
        self._system.mv(temporary, path)

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn the errors of any storage into one.

        Raises:
            RunError: with the storage's words.
        """
        try:
            yield
        except RunError:
            raise
        except Exception as error:
            # Each kind of storage has errors of its own, which fsspec does not make one of.
            words = words_of(error)
            hint = "Check the URL, the network and the credentials; the same command resumes from what is stored."
            raise RunError(
                Fault("storage-silent", f"fails at {self}: {words}", key=KEY, got=self._url, hint=hint)
            ) from None


def _opened(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it.

    Raises:
        ConfigError: there is no such kind, or its package is missing.
    """
    from fsspec.core import url_to_fs

    if url.startswith("hf://"):
        problem = "is not supported: each file of a checkpoint would be a commit"
        hint = "Give a mounted folder, or an object store such as s3://BUCKET/FOLDER."
        raise ConfigError(Fault("not-supported", problem, key=KEY, got=url, hint=hint))
    try:
        # Other machines change what is listed.
        system, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        words = words_of(error)
        hint = f"{words}, with pip."
        problem = "needs a package that is not installed"
        raise ConfigError(Fault("not-installed", problem, key=KEY, got=url, hint=hint)) from None
    except ValueError as error:
        allowed = ("a folder", "s3://BUCKET/FOLDER", "another URL that fsspec knows")
        words = words_of(error)
        problem = f"is no place that fsspec knows ({words})"
        raise ConfigError(Fault("wrong-value", problem, key=KEY, got=url, allowed=allowed)) from None
    return system, str(root)


def _is_temporary(name: str) -> bool:
    return any(part.startswith(TEMPORARY_PREFIX) for part in name.split("/"))


def _remove_empty_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
