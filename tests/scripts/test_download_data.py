"""`scripts/download_data.py`, with the hub replaced."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest


def fake_hub(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> list[str]:
    calls: list[str] = []

    def download(repository: str, *, local_dir: Path, **_: Any) -> None:
        calls.append(repository)
        if error is not None:
            raise error
        (Path(local_dir) / "format_data.jsonl").write_text('{"question": "问题", "answer": "答案"}\n', "utf-8")

    info = SimpleNamespace(sha="commit", siblings=[SimpleNamespace(rfilename="format_data.jsonl")])
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(dataset_info=lambda *_, **__: info))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return calls


def test_help_lists_the_corpora(run_script: Callable[..., Any]) -> None:
    outcome = run_script("download_data", "--help")
    assert outcome.code == 0
    assert "huatuo26m_lite" in outcome.out


def test_fetch_then_nothing_to_do(run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_hub(monkeypatch)
    outcome = run_script("download_data", "corpus=huatuo26m_lite")
    assert outcome.code == 0
    assert "Next: python -m medqa_finetune.train corpus=huatuo26m_lite" in outcome.out
    again = run_script("download_data")
    assert again.code == 0
    assert "nothing to fetch" in again.out
    assert calls == ["FreedomIntelligence/Huatuo26M-Lite"]
    assert Path("data/huatuo26m_lite/format_data.jsonl").exists()


def test_no_network(run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, ConnectionError("no route"))
    outcome = run_script("download_data", "corpus=huatuo26m_lite")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.key, fault.got) == (
        "fetch-failed", "corpus.repository", "FreedomIntelligence/Huatuo26M-Lite",
    )  # fmt: skip
    assert "Traceback" not in outcome.err
    fake_hub(monkeypatch)
    assert run_script("download_data", "corpus=huatuo26m_lite").code == 0


def test_interrupted(run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, KeyboardInterrupt())
    assert run_script("download_data").code == 130


def test_nothing_to_download(run_script: Callable[..., Any]) -> None:
    assert "needs no download" in run_script("download_data", "corpus=embedded").out


@pytest.mark.parametrize("argument", ["corpus=nope", "nope", "corpus.nope=1", "corpus.files=[a.py]"])
def test_bad_arguments(run_script: Callable[..., Any], argument: str) -> None:
    outcome = run_script("download_data", argument)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") <= 2
