"""`scripts/download_model.py`, with the hubs replaced."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

# A safetensors file without tensors: the length of its header, and the header.
EMPTY = "\2" + 7 * "\0" + "{}"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


class FakeHub:
    """Writes a sharded model; stops after `files` of them."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.files = 99
        self.error: BaseException | None = None

    def __call__(self, repository: str, **arguments: Any) -> str:
        self.calls.append({"repository": repository, **arguments})
        folder = Path(arguments["local_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        index = json.dumps({"weight_map": {f"layer{i}": shard for i, shard in enumerate(SHARDS)}})
        contents = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors.index.json": index}
        contents |= dict.fromkeys(SHARDS, EMPTY)
        for name, content in list(contents.items())[: self.files]:
            (folder / name).write_text(content)
        if self.error is not None:
            raise self.error
        return str(folder)

    def model_info(self, repository: str, revision: str) -> SimpleNamespace:
        return SimpleNamespace(sha=f"commit-of-{revision}")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    for variable in ("HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setitem(sys.modules, "modelscope", ModuleType("modelscope"))
    monkeypatch.setattr(sys.modules["modelscope"], "snapshot_download", fake, raising=False)
    return fake


def test_by_configured_name(run_script: Callable[..., Any], hub: FakeHub) -> None:
    outcome = run_script("download_model", "--model", "qwen2.5-3b")
    assert outcome.code == 0, outcome.err
    assert hub.calls[0]["repository"] == "Qwen/Qwen2.5-3B-Instruct"
    assert hub.calls[0]["revision"] == "commit-of-main"
    assert Path(hub.calls[0]["local_dir"]) == Path("models/Qwen2.5-3B-Instruct")
    assert "Next: python -m medqa_finetune.train model=qwen2.5-3b" in outcome.out


def test_only_safe_files_are_asked_for(run_script: Callable[..., Any], hub: FakeHub) -> None:
    run_script("download_model")
    patterns = hub.calls[0]["allow_patterns"]
    assert {Path(pattern).suffix for pattern in patterns} == {".safetensors", ".json", ".txt", ".model", ".jinja"}


def test_modelscope_by_repository(run_script: Callable[..., Any], hub: FakeHub) -> None:
    outcome = run_script("download_model", "--source", "modelscope", "--model", "Qwen/Qwen2.5-7B", "--to", "there")
    assert outcome.code == 0, outcome.err
    assert hub.calls[0]["revision"] == "master"
    assert "model=local model.path=there" in outcome.out


def test_failure_then_resume(run_script: Callable[..., Any], hub: FakeHub) -> None:
    hub.files, hub.error = 4, ConnectionError("reset by peer\nmore")
    outcome = run_script("download_model")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.key, fault.got) == ("fetch-failed", "model", "Qwen/Qwen2.5-3B-Instruct")
    assert "reset by peer" in fault.problem
    assert "source=modelscope" in fault.hint
    assert outcome.err.count("\n") == 1
    hub.files, hub.error = 99, None
    assert run_script("download_model").code == 0


def test_missing_shard_is_found(run_script: Callable[..., Any], hub: FakeHub) -> None:
    hub.files = 4
    outcome = run_script("download_model")
    assert outcome.code == 2
    assert SHARDS[1] in outcome.err


def test_interrupted(run_script: Callable[..., Any], hub: FakeHub) -> None:
    hub.error = KeyboardInterrupt()
    assert run_script("download_model").code == 130


@pytest.mark.parametrize(
    ("model", "code"),
    [("nope", None), ("local", None), ("a/b/c", "not-a-repository"), ("/b", "not-a-repository"),
     ("../b", "not-a-repository"), ("tiny", "nothing-to-do")],
)  # fmt: skip
def test_bad_names(run_script: Callable[..., Any], hub: FakeHub, model: str, code: str | None) -> None:
    outcome = run_script("download_model", "--model", model)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    (fault,) = outcome.faults
    if code is not None:  # names that are in no group are refused where groups are read
        assert (fault.code, fault.key, fault.got) == (code, "model", model)
    assert hub.calls == []


def test_modelscope_not_installed(run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    outcome = run_script("download_model", "--source", "modelscope")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.key, fault.got) == ("not-installed", "source", "modelscope")
    assert "`pip install 'medqa-finetune[modelscope]'`" in fault.hint


def test_help(run_script: Callable[..., Any]) -> None:
    assert "qwen2.5-3b" in run_script("download_model", "--help").out
