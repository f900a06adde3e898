"""A folder at a URL: what is written is there whole, and what fails is one fault."""

from pathlib import Path

import pytest

from medqa_finetune.errors import ConfigError, RunError
from medqa_finetune.storage.remote import Remote
from tests.faulty import only_fault


@pytest.fixture(params=["folder", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    url = str(tmp_path / "drive") if request.param == "folder" else f"memory://{tmp_path.name}-{id(tmp_path)}"
    return Remote(url, "study/run")


def test_an_empty_place_has_no_files(remote: Remote) -> None:
    assert remote.sizes() == {}
    assert remote.read("record.json") is None


def test_files_come_back_as_they_were(remote: Remote, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 1000)
    remote.write("record.json", "问".encode())
    remote.upload(large, "checkpoints/step-1/weights")
    assert remote.sizes() == {"record.json": 3, "checkpoints/step-1/weights": 1000}
    assert remote.read("record.json") == "问".encode()
    remote.download("checkpoints/step-1/weights", tmp_path / "back" / "weights")
    assert (tmp_path / "back" / "weights").read_bytes() == large.read_bytes()


def test_files_are_replaced_and_removed(remote: Remote) -> None:
    remote.write("a/b", b"1")
    remote.write("a/b", b"22")
    remote.remove(["a/b", "never there"])
    assert remote.sizes() == {}


def test_a_folder_is_moved_aside_whole(remote: Remote) -> None:
    remote.write("a/b", b"1")
    first = remote.move_aside()
    remote.write("a/b", b"2")
    second = remote.move_aside()
    assert remote.sizes() == {}
    assert (first[-6:], second[-6:]) == (".old-1", ".old-2")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(str(tmp_path), "run")
    remote.write("record.json", b"old")

    def half(path: str, content: bytes) -> None:
        Path(path).write_bytes(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(remote._system, "pipe_file", half)
    with pytest.raises(RunError) as caught:
        remote.write("record.json", b"new")
    assert only_fault(caught).code == "storage-silent"
    assert remote.read("record.json") == b"old"
    # What is left of it is no file of the run.
    assert list(remote.sizes()) == ["record.json"]


@pytest.mark.parametrize(
    ("url", "code"), [("nothing://x/y", "wrong-value"), ("hf://datasets/me/runs", "not-supported")]
)
def test_places_of_unknown_kinds_are_refused(url: str, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Remote(url, "run")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, "storage", url)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.core

    def refuse(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(ConfigError) as caught:
        Remote("s3://bucket", "run")
    fault = only_fault(caught)
    assert fault.code == "not-installed"
    assert "s3fs" in str(fault.hint)
