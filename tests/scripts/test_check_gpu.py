import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import Config
from medqa_finetune.data import token_sets
from medqa_finetune.data.examples import Encoded
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.model.cards import CARDS
from scripts import check_gpu
from scripts.gpu_checks import lacking, prediction
from scripts.gpu_checks.finding import Finding
from scripts.gpu_checks.models import Scale
from scripts.gpu_checks.parts import PARTS
from tests.sources import ROOT

SMALL = Scale(small=True)


@pytest.mark.parametrize("part", ["packing", "answering-form", "answering", "roofline"])
def test_parts_find_what_holds_on_a_cpu(part: str) -> None:
    found = list(PARTS[part](SMALL))
    assert found
    assert not [each for each in found if each.ok is False]


def test_measured_seconds_are_held_to_those_predicted_for_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.ok for each in prediction.roofline(SMALL)] == [None, None, None]  # a CPU is no card
    monkeypatch.setattr(prediction, "card_named", lambda name: CARDS["t4"])
    step, answers = prediction.roofline(SMALL)
    assert all("T4" in each.limit for each in (step, answers))
    assert all(each.ok is not None for each in (step, answers))


def test_every_part_has_a_limit_within_the_whole() -> None:
    assert list(check_gpu.LIMITS) == list(PARTS)
    assert max(check_gpu.LIMITS.values()) < check_gpu.ALL_SECONDS


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the processes of parts would find or raise."""
    answers: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        answer = answers[command[command.index("--part") + 1]]
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, *answer)

    monkeypatch.setattr(subprocess, "run", run)
    return answers


def line(**values: Any) -> str:
    return json.dumps({"part": "card", "what": "rate", "value": 1, "unit": "", "limit": "", "ok": None} | values) + "\n"


def test_a_part_that_fails_or_hangs_spoils_no_other(
    parts: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts["card"] = (1, line(), "Traceback\nValueError: no such card\n")
    parts["packing"] = subprocess.TimeoutExpired("packing", 5, output=line(part="packing", ok=True).encode())
    parts["resume"] = (0, line(part="resume", ok=True), "")
    out = tmp_path / "found.json"
    assert check_gpu.main(["--only", "card", "packing", "resume", "--out", str(out)]) == 1
    found = json.loads(out.read_text(encoding="utf-8"))["findings"]
    assert [(each["part"], each["ok"]) for each in found] == [
        ("card", None),
        ("card", False),
        ("packing", True),
        ("packing", False),
        ("resume", True),
    ]
    assert "ValueError: no such card" in capsys.readouterr().out


def test_what_there_is_no_time_for_is_named(parts: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert check_gpu.main(["--only", "card", "--seconds", "1"]) == 1
    assert "no time left" in capsys.readouterr().out


def test_all_well_ends_with_0(parts: dict[str, Any]) -> None:
    parts["card"] = (0, line() + "a warning\n" + line(ok=True), "")
    assert check_gpu.main(["--only", "card"]) == 0


def test_sets_of_tokens_are_the_same_without_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Encoded([*range(5, 5 + length)], 2, cut=length == 4) for length in (4, 7, 3)]
    real = EncodedSet(made)
    monkeypatch.setattr(token_sets, "Dataset", lacking.Rows)
    stood_in = EncodedSet(made)
    assert [*stood_in] == [*real]
    assert stood_in.__getitems__([2, 0]) == real.__getitems__([2, 0])
    assert [stood_in.encoded(place) for place in (-1, 0)] == [real.encoded(place) for place in (-1, 0)]
    assert (stood_in.tokens, stood_in.counts, stood_in.sha256) == (real.tokens, real.counts, real.sha256)


def test_stand_ins_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rensa", "omegaconf"):
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name))
    lacking.stand_in(["rensa", "omegaconf", "bitsandbytes"])
    import omegaconf
    import rensa

    assert Config().data.name == omegaconf.MISSING
    with pytest.raises(ModuleNotFoundError, match="rensa"):
        rensa.RMinHash(num_perm=1, seed=1)


def test_a_finding_is_a_row_of_the_table() -> None:
    row = check_gpu.table([vars(Finding("packing", "distance", 0.01, "", "≤ 0.05", ok=True))]).splitlines()[1]
    assert row.split() == ["packing", "distance", "0.01", "≤", "0.05", "ok"]


@pytest.mark.slow
def test_all_parts_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, "scripts/check_gpu.py", "--device", "cpu", "--small", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found = json.loads(out.read_text(encoding="utf-8"))["findings"]
    assert {each["part"].replace(" ", "-") for each in found} == set(PARTS)
