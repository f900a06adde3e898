"""The command `doctor`: its fields, its screen, its exit codes."""

import json
from pathlib import Path

import pytest

from medqa_finetune import doctor as command
from medqa_finetune.checkup import device, settings
from medqa_finetune.checkup.trials import Request, Trial
from medqa_finetune.languages.help_page import columns
from tests.commands import here

MACHINE = {"type": "cpu", "name": "CPU, 2 threads", "memory_bytes": 2**34, "precision": "fp32", "bf16": False}
NAMES = ["system", "packages", "device", "precision", "bitsandbytes", "disk", "fonts", "hubs", "model", "corpus"]


@pytest.fixture(autouse=True)
def _offline_and_without_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    # `lang=` sets it; this restores it.
    monkeypatch.setenv("MEDQA_LANG", "en")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(device, "try_all", trials)
    monkeypatch.setattr(settings, "option_names", lambda group: ["demo"])


def trials(request: Request) -> list[Trial]:
    memory = {
        "card": "T4",
        "card_bytes": 2**34,
        "needed_bytes": 2**33,
        "needed_here_bytes": 2**33,
        "fits": True,
        "fits_here": True,
    }
    needs = [Trial("memory", {**memory, "name": each.name, "disk_bytes": 2**20}) for each in request.settings]
    works = [Trial("quantization", {"quantization": name, "works": True}) for name in ("nf4", "int8")]
    return [
        Trial("torch", {"cuda": None}),
        Trial("device", MACHINE),
        Trial("precision", {"fp32": 1e12}),
        *needs,
        *works,
    ]


def test_the_demo_can_run_anywhere(tmp_path: Path) -> None:
    done = here(command.doctor, "profile=demo", "format=json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (done.returncode, found["ready"], found["cells"]) == (0, True, 1)
    assert [check["name"] for check in found["checks"]] == NAMES
    assert [need["name"] for need in found["needs"]] == [None, "demo"]
    assert [*tmp_path.iterdir()] == []


def test_what_is_missing_stops_a_run_with_a_remedy(tmp_path: Path) -> None:
    done = here(command.doctor, "corpus=csv", "corpus.path=none.csv", "method=qlora", "format=json", cwd=tmp_path)
    found = json.loads(done.stdout)
    states = {check["name"]: check for check in found["checks"]}
    assert (done.returncode, found["ready"]) == (1, False)
    assert [fault["code"] for fault in states["model"]["faults"]] == ["model-missing"]
    assert [fault["code"] for fault in states["corpus"]["faults"]] == ["file-missing"]
    assert all(fault["hint"] for fault in states["model"]["faults"])


def test_a_corpus_of_a_hub_is_missing_only_without_a_network(tmp_path: Path) -> None:
    done = here(command.doctor, "model=tiny", "format=json", cwd=tmp_path)
    (corpus,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "corpus"]
    assert (done.returncode, corpus["faults"][0]["code"]) == (1, "corpus-missing")
    assert corpus["facts"]["present"] is False


def test_impossible_arguments_exit_with_2(tmp_path: Path) -> None:
    for argument in ("methd=lora", "format=xml", "lang=fr"):
        assert here(command.doctor, argument, cwd=tmp_path).returncode == 2


def test_a_broken_package_is_a_problem_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(settings, "compose", broken)
    done = here(command.doctor, "format=json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert {check["name"]: check["state"] for check in found["checks"]}["settings"] == "problem"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_all_is_on_one_screen(tmp_path: Path, language: str) -> None:
    done = here(command.doctor, f"lang={language}", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) <= 30
    assert max(map(columns, lines)) <= 100
    assert done.stderr == ""
