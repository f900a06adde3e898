import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from medqa_finetune.record import environment
from medqa_finetune.record.environment import commit_of_code, describe_environment


def test_versions_device_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "method=lora"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    found = describe_environment("cpu", None)
    assert found.command == ["train.py", "method=lora"]
    assert (found.device, found.precision) == ("cpu", None)
    assert found.versions["python"].startswith("3.")
    assert "sacrebleu" in found.versions


def test_a_package_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-package", "sacrebleu"))
    assert set(describe_environment("cpu", "fp32").versions) == {"python", "sacrebleu"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "package" / "record" / "environment.py"))
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_outside_of_a_checkout_there_is_no_commit(checkout: Path) -> None:
    assert commit_of_code() is None


def test_a_checkout_without_a_commit_has_none(checkout: Path) -> None:
    git(checkout, "init", "-q")
    assert commit_of_code() is None


def test_the_commit_and_whether_files_changed(checkout: Path) -> None:
    git(checkout, "init", "-q")
    (checkout / "a").write_text("1", encoding="utf-8")
    git(checkout, "add", "a")
    git(checkout, "commit", "-q", "-m", "a")
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "untracked").write_text("1", encoding="utf-8")
    assert commit_of_code() == commit
    (checkout / "a").write_text("2", encoding="utf-8")
    assert commit_of_code() == commit + "-changed"


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert commit_of_code() is None


def test_a_module_is_named_as_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "method=lora"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("medqa_finetune.train", None))
    assert describe_environment("cpu", None).command == ["python", "-m", "medqa_finetune.train", "method=lora"]
