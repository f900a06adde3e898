"""Public data sets, with the hubs' libraries replaced: nothing here touches a network."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from medqa_finetune.config.groups import load_group, option_names
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import corpus_sha256, read_examples
from medqa_finetune.data.hub import MARKER, UNFINISHED, ensure_files, fetch, is_complete
from medqa_finetune.data.readers import format_of
from medqa_finetune.data.rows import Ledger
from medqa_finetune.errors import DataError
from tests.faulty import only_fault

ROW = '{"question": "感冒怎么办", "answer": "多喝水"}\n'


def corpus_of(**changes: Any) -> CorpusConfig:
    values = {"name": "t", "source": "hub", "repository": "owner/name", "files": ["a.jsonl", "more/*.jsonl"]}
    return CorpusConfig(**(values | changes))


class FakeHub:
    """Stands in for a snapshot_download; writes `contents` and notes what it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.contents = {"a.jsonl": ROW, "more/b.jsonl": ROW * 2}
        self.fails_after: int | None = None
        self.listed: list[str] = []

    def __call__(self, repository: str, **arguments: Any) -> str:
        self.calls.append({"repository": repository, **arguments})
        folder = Path(arguments["local_dir"])
        for count, (name, content) in enumerate(self.contents.items()):
            if count == self.fails_after:
                raise ConnectionError("the network is gone\nand more lines")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, "utf-8")
        return str(folder)

    def dataset_info(self, repository: str, revision: str) -> SimpleNamespace:
        names = ["README.md", "load.py", *(self.listed or self.contents)]
        return SimpleNamespace(
            sha=f"commit-of-{revision}", siblings=[SimpleNamespace(rfilename=name) for name in names]
        )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    fake = FakeHub()
    for variable in ("HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.chdir(tmp_path)
    return fake


def test_fetched_once_then_used_without_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    examples = list(read_examples(corpus_of(), Ledger()))
    assert [example.id for example in examples] == ["a.jsonl:1", "more/b.jsonl:1", "more/b.jsonl:2"]
    assert hub.calls == [{
        "repository": "owner/name", "repo_type": "dataset", "revision": "commit-of-main",
        "allow_patterns": ["a.jsonl", "more/*.jsonl"], "local_dir": Path("data/t"),
    }]  # fmt: skip
    marker = json.loads((tmp_path / "data" / "t" / MARKER).read_text())
    assert marker["files"] == {"a.jsonl": len(ROW.encode()), "more/b.jsonl": 2 * len(ROW.encode())}
    assert marker["resolved_revision"] == "commit-of-main"
    assert len(list(read_examples(corpus_of(), Ledger()))) == 3
    assert corpus_sha256(corpus_of()) == corpus_sha256(corpus_of())
    assert len(hub.calls) == 1


def test_failure_names_a_mirror_and_the_next_try_continues(hub: FakeHub, tmp_path: Path) -> None:
    hub.fails_after = 1
    with pytest.raises(DataError) as error:
        list(read_examples(corpus_of(), Ledger()))
    fault = only_fault(error)
    assert (fault.code, fault.key, fault.got) == ("fetch-failed", "corpus.repository", "owner/name")
    assert fault.file == str(Path("data/t"))
    assert "HF_ENDPOINT=" in fault.hint
    assert "the network is gone" in fault.problem
    assert "more lines" not in fault.problem
    folder = tmp_path / "data" / "t"
    assert (folder / "a.jsonl").exists()  # what was fetched stays
    assert (folder / UNFINISHED).exists()
    assert not (folder / MARKER).exists()
    hub.fails_after = None
    assert len(list(read_examples(corpus_of(), Ledger()))) == 3
    assert not (folder / UNFINISHED).exists()


def test_a_half_download_is_not_taken_for_a_whole_one(hub: FakeHub, tmp_path: Path) -> None:
    hub.fails_after = 1
    corpus = corpus_of(files=["*.jsonl"])
    for _ in range(2):  # the pattern fits what is there, yet a file is missing
        with pytest.raises(DataError):
            ensure_files(corpus, tmp_path / "d")
    assert len(hub.calls) == 2


def test_a_file_that_silently_does_not_arrive(hub: FakeHub, tmp_path: Path) -> None:
    hub.listed = ["a.jsonl", "more/b.jsonl", "more/c.jsonl"]
    with pytest.raises(DataError) as caught:
        fetch(corpus_of(), tmp_path)
    fault = only_fault(caught)
    assert fault.code == "fetch-failed"
    assert "more/c.jsonl" in fault.problem
    assert "1 of 3 files" in fault.problem
    assert not (tmp_path / MARKER).exists()


def test_interruption_is_not_an_error_of_the_data(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(read_examples(corpus_of(), Ledger()))


def test_files_put_there_by_hand_are_used(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "t"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text(ROW, "utf-8")
    assert len(list(read_examples(corpus_of(files=["a.jsonl"]), Ledger()))) == 1
    assert len(list(read_examples(corpus_of(files=["a.jsonl"], path=str(folder), name="u"), Ledger()))) == 1
    assert hub.calls == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "a.jsonl").unlink(),
        lambda folder: (folder / "a.jsonl").write_text("short"),
        lambda folder: (folder / MARKER).write_text("{torn"),
        lambda folder: (folder / MARKER).write_text("[]"),
    ],
)
def test_a_spoilt_folder_is_fetched_again(hub: FakeHub, tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    fetch(corpus_of(), tmp_path)
    spoil(tmp_path)
    ensure_files(corpus_of(), tmp_path)
    assert len(hub.calls) == 2
    assert is_complete(corpus_of(), tmp_path)


def test_another_revision_is_another_download(hub: FakeHub, tmp_path: Path) -> None:
    fetch(corpus_of(), tmp_path)
    ensure_files(corpus_of(revision="v2"), tmp_path)
    assert [call["revision"] for call in hub.calls] == ["commit-of-main", "commit-of-v2"]


def test_files_that_the_data_set_does_not_have(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(corpus_of(files=["a.jsonl", "c.jsonl"]), tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("file-missing", "corpus.files", ["c.jsonl"])
    assert "owner/name" in fault.problem
    assert "corpus.files=" in fault.hint
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("files", [[], ["a.py"], ["*.pkl"], ["model.bin"], ["*"], ["../a.jsonl"], ["/etc/a.json"]])
def test_only_data_files_are_fetched(hub: FakeHub, tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        fetch(corpus_of(files=files), tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("not-allowed" if files else "missing-key", "corpus.files")
    assert not files or (fault.got, ".parquet" in fault.allowed) == (files[0], True)
    assert hub.calls == []


def test_repository_is_needed(hub: FakeHub) -> None:
    with pytest.raises(DataError) as caught:
        list(read_examples(corpus_of(repository=None), Ledger()))
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("missing-key", "corpus.repository")
    assert "corpus.repository=owner/name" in fault.hint


def test_unknown_hub(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(corpus_of(hub="elsewhere"), tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "corpus.hub", "elsewhere")
    assert fault.allowed == ("huggingface", "modelscope")


def test_modelscope(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", ModuleType("modelscope"))
    monkeypatch.setattr(sys.modules["modelscope"], "dataset_snapshot_download", hub, raising=False)
    fetch(corpus_of(hub="modelscope"), tmp_path)
    assert hub.calls[0]["revision"] == "master"
    assert is_complete(corpus_of(hub="huggingface"), tmp_path)


def test_modelscope_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(DataError) as caught:
        fetch(corpus_of(hub="modelscope"), tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-installed", "corpus.hub", "modelscope")
    assert "`pip install 'medqa-finetune[modelscope]'`" in fault.hint


def test_offline_is_said_honestly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        list(read_examples(corpus_of(), Ledger()))
    assert only_fault(caught).code == "fetch-failed"
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", option_names("corpus"))
def test_every_shipped_corpus(name: str) -> None:
    corpus = load_group("corpus", name, CorpusConfig, [])
    assert corpus.name == name
    if corpus.source == "hub":
        assert str(corpus.repository).count("/") == 1
        assert corpus.files
        assert all(map(format_of, corpus.files))
