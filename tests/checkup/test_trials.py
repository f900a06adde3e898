"""What the trials of device, precisions, 4-bit weights and memory find, also where libraries are broken."""

import sys
from pathlib import Path

import pytest

from medqa_finetune.checkup import trials
from medqa_finetune.checkup.device import device_checks
from medqa_finetune.checkup.memory import needs_of
from medqa_finetune.checkup.result import State
from medqa_finetune.checkup.settings import CARD_OF_PROFILE, architectures
from medqa_finetune.checkup.trials import Request, Setting, Trial, run_trials
from medqa_finetune.config.groups import load_group, option_names
from medqa_finetune.config.schema import ModelConfig
from medqa_finetune.errors import Fault
from medqa_finetune.memory import GIB
from medqa_finetune.model import rates
from medqa_finetune.model.estimate import Machine
from tests.config.builders import VALID, changed

NOTHING = Request((), ())
CPU = Machine("cpu", "CPU", 16 * GIB)


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "measure_matrix_rate", lambda device, precision: 1e12)


def test_a_missing_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = [*run_trials(NOTHING)]
    assert [fault.code for each in found for fault in each.faults] == ["import-failed"]
    device, precision, quantization = device_checks(found, ())
    assert (device.state, precision.state, quantization.state) == (State.PROBLEM, State.SKIPPED, State.SKIPPED)


@pytest.mark.parametrize(("wanted", "state"), [((), State.WARNING), (("nf4",), State.PROBLEM)])
def test_a_broken_bitsandbytes_stops_only_what_needs_it(
    monkeypatch: pytest.MonkeyPatch, wanted: tuple[str, ...], state: State
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    _, precision, quantization = device_checks([*run_trials(NOTHING)], wanted)
    assert precision.state is State.OK
    assert (quantization.state, quantization.facts["works"]) == (state, {"nf4": False, "int8": False})
    assert [fault.code for fault in quantization.faults] == ["quantization-unusable"]


def test_a_process_that_ends_early_is_the_last_trials_problem() -> None:
    begun = [Trial("torch", {"cuda": None}), Trial("device", {"type": "cpu", "name": "CPU", "memory_bytes": GIB})]
    begun[1].facts.update(precision="fp32", bf16=False)
    ended = Trial("ended", faults=[Fault("process-ended", "the trial was killed by SIGSEGV")])
    device, precision, _ = device_checks([*begun, ended], ())
    assert (device.state, precision.state) == (State.WARNING, State.PROBLEM)
    assert precision.faults[0].code == "process-ended"
    rated = Trial("precision", {"fp32": 1e12})
    *_, quantization = device_checks([*begun, rated, ended], ("nf4",))
    assert (quantization.state, quantization.faults[0].code) == (State.PROBLEM, "process-ended")


@pytest.mark.parametrize(("bf16", "free"), [(True, 2**33), (False, 2**30)])
def test_a_gpu_is_described(bf16: bool, free: int) -> None:
    facts = {"type": "cuda", "name": "Tesla T4", "memory_bytes": 2**34, "precision": "fp16", "count": 2}
    facts |= {"free_bytes": free, "bf16": bf16, "capability": [7, 5]}
    found = [Trial("torch", {"cuda": "12.8"}), Trial("device", facts), Trial("precision", {"fp16": 2e13})]
    device, precision, _ = device_checks(found, ())
    assert device.state is State.OK
    assert f"2 × Tesla T4, 16.0 GiB ({free / GIB:.1f} GiB free), CUDA 12.8" in device.line
    assert (precision.state, precision.facts["bf16"]) == (State.OK, bf16)


def test_every_profile_for_a_card_has_it() -> None:
    assert {*option_names("profile")} - CARD_OF_PROFILE.keys() == {"demo"}


# Published numbers of weights, in millions; tied embeddings count once.
WEIGHTS = {
    "qwen2.5-0.5b": 494.0, "qwen2.5-1.5b": 1543.7, "qwen2.5-3b": 3085.9, "qwen2.5-7b": 7615.6, "qwen3-0.6b": 596.0,
    "qwen3-1.7b": 1720.6, "qwen3-4b": 4022.5, "qwen3-8b": 8190.7, "llama-3.2-1b": 1235.8, "llama-3.2-3b": 3212.7,
    "phi-2": 2779.7, "smollm2-135m": 134.5, "smollm2-360m": 361.8,
}  # fmt: skip


def test_every_model_that_is_downloaded_is_known() -> None:
    models = {name: load_group("model", name, ModelConfig, ["path=x"]) for name in option_names("model")}
    named = {name for name, model in models.items() if model.repository}
    assert named == WEIGHTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHTS)
def test_known_models_have_their_published_size(tmp_path: Path, name: str) -> None:
    from medqa_finetune.model.probe import architecture_size

    model = load_group("model", name, ModelConfig, [])
    size = architecture_size(architectures([model], tmp_path)[model])
    assert size is not None
    assert round(size.parameters / 1e6, 1) == WEIGHTS[name]


def test_a_profile_needs_what_its_file_says(tmp_path: Path) -> None:
    model = load_group("model", "qwen2.5-3b", ModelConfig, [])
    asked = changed(VALID, train__micro_batch="auto", train__gradient_checkpointing="auto")
    folder = str(architectures([model], tmp_path)[model])
    found = trials._memory(Setting("t4", "t4", asked, folder), CPU)
    (need,) = needs_of({"t4": [asked]}, [found])
    assert need.needed_bytes is not None
    assert need.needed_bytes / GIB == pytest.approx(12.5, abs=0.6)
    assert (need.fits, need.card) == (True, "T4")
