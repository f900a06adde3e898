"""What is found before a run starts: disk, memory, machine and model, all faults at once, and nothing written."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune import preflight
from medqa_finetune.architecture.size import ModelSize, read_size
from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.errors import ConfigError, Fault, distinct
from medqa_finetune.model.estimate import Machine, checkpoint_bytes, run_bytes
from medqa_finetune.model.requirements import Need
from medqa_finetune.preflight import (
    Findings,
    check_needs,
    check_needs_in_child,
    disk_faults,
    precision_faults,
    preflight_matrix,
    preflight_run,
    warn_about_memory,
)
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment
from tests import warm
from tests.commands import ROOT, TINY, files_below, train
from tests.config.builders import VALID, changed
from tests.faulty import only_fault
from tests.report.builders import record

CPU = Machine("cpu", "CPU", 2**40)
QLORA = MethodConfig(name="qlora", quantization="nf4")
NONE = MethodConfig(name="none", trains="nothing")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def config(outputs: Path, micro_model: Path) -> Config:
    return changed(VALID, outputs=str(outputs), run_name="lora_20k", model__path=str(micro_model), model__name="local")


@pytest.fixture
def size(micro_model: Path) -> ModelSize:
    found = read_size(micro_model)
    assert found is not None
    return found


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let every disk have this many bytes free."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**50, 0, count))

    return pretend


def faults(*runs: tuple[Config, ModelSize | None]) -> list[Fault]:
    return list(disk_faults(runs, cuda=False))


@pytest.mark.usefixtures("forked_children")
def test_run_that_passes_leaves_nothing(config: Config, outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    preflight_run(config)
    assert not outputs.exists()
    assert caplog.text == ""


@pytest.mark.usefixtures("forked_children")
def test_matrix_that_passes_leaves_nothing(config: Config, outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    preflight_matrix([config, changed(config, method=QLORA), changed(config, method=NONE)])
    assert not outputs.exists()
    assert caplog.text == ""


@pytest.mark.usefixtures("forked_children")
def test_this_machine_does_not_matter_to_cells_that_run_elsewhere(config: Config, outputs: Path) -> None:
    elsewhere = changed(config, precision="fp16")
    with pytest.raises(ConfigError):
        preflight_matrix([elsewhere])
    preflight_matrix([elsewhere], here=False)
    with pytest.raises(ConfigError) as caught:
        preflight_matrix([changed(elsewhere, train__max_length=16)], here=False)
    assert [fault.key for fault in caught.value.faults] == ["train.max_length"]
    assert not outputs.exists()


def test_a_matrix_without_open_cells_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    preflight_matrix([])


def test_the_launchers_process_never_loads_torch() -> None:
    # Its child, which does load it, is forked.
    code = (
        "import sys; from medqa_finetune.preflight import preflight_matrix; from tests.config.builders import VALID\n"
        "from tests import warm; warm.use_server(sys.argv[1])\n"
        "with warm.children(): preflight_matrix([VALID])\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, warm.shared_server()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


BAD = changed(
    VALID, precision="fp16", train__max_length=16, method__optimizer="adamw_torhc", method__target_modules=["qproj"]
)


@pytest.mark.usefixtures("forked_children")
@pytest.mark.parametrize("check", [preflight_run, lambda config: preflight_matrix([config, config])])
def test_faults_of_all_runs_are_raised_once(
    check: Callable[[Config], None], free: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)  # what is in `outputs` where the tests are started counts as room that is taken already
    free(0)
    with pytest.raises(ConfigError) as caught:
        check(BAD)
    assert [(fault.key, fault.got) for fault in distinct(caught.value.faults)] == [
        ("precision", "fp16"), ("train.max_length", 16), ("method.optimizer", "adamw_torhc"), ("outputs", "outputs"),
    ]  # fmt: skip


def test_runs_that_need_the_same_are_examined_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Need] = []

    def note(needs: list[Need]) -> Findings:
        asked.extend(needs)
        return Findings(CPU, [])

    monkeypatch.setattr(preflight, "check_needs_in_child", note)
    sizes = [changed(config, data__train_size=number) for number in (10, 20, 30)]
    preflight_matrix([*sizes, *(changed(each, method=QLORA) for each in sizes)])
    assert [need.method for need in asked] == [config.method, QLORA]


@pytest.mark.usefixtures("forked_children")
def test_method_that_does_not_fit_is_named(config: Config) -> None:
    wrong = changed(config, method__target_modules=["qproj"])
    with pytest.raises(ConfigError) as caught:
        preflight_run(wrong)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("no-such-module", "method.target_modules", ["qproj"])


def stand_in(folder: Path, lines: str) -> str:
    """Write a program that stands in for Python, and return its path."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("kill -SEGV $$", "SIGSEGV"),
        ("kill -KILL $$", "SIGKILL"),
        ("echo first >&2; echo 'ImportError: libtorch.so' >&2; exit 1", "code 1 (ImportError: libtorch.so)"),
        ("printf '\\377\\n' >&2; exit 3", "code 3"),
        ("exit 0", "code 0"),
        ("echo not json", "code 0"),
        ("exec sleep 30", ""),
    ],
    ids=lambda text: text[:30],
)
def test_crashed_check_is_a_fault_with_its_last_line(
    lines: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, lines))
    monkeypatch.setattr(preflight, "CHECK_SECONDS", 1 if "sleep" in lines else 30)
    machine, found = check_needs_in_child([Need("model", VALID.method, "auto", 512)])
    assert machine is None
    (fault,) = found
    assert fault.code == "not-checked"
    assert part in fault.problem
    assert ("nvidia-smi" in fault.hint) is ("sleep" in lines)


@pytest.mark.usefixtures("forked_children")
def test_faults_of_the_child_keep_their_fields(tmp_path: Path) -> None:
    machine, (fault,) = check_needs_in_child([Need(str(tmp_path / "none"), VALID.method, "auto", 512)])
    assert machine is not None
    assert fault.code != "unspecified"
    assert str(tmp_path / "none") in str(fault.file)


def test_small_disk_is_refused_with_figures(config: Config, size: ModelSize, free: Callable[[int], None]) -> None:
    free(5 * 2**20)
    (fault,) = faults((changed(config, data__test_size=1, data__scale=1.0), size))
    # 8 MiB of logs, four checkpoints of 0.4 MiB: 32,768 adapter weights of 12 bytes.
    assert (fault.code, fault.key, fault.got) == ("disk-full", "outputs", config.outputs)
    assert "1 run may need 9.6 MiB" in fault.problem
    assert "5.0 MiB are free" in fault.problem
    assert "outputs=DIR" in fault.hint


def test_a_disk_just_large_enough_is_taken(config: Config, size: ModelSize, free: Callable[[int], None]) -> None:
    needed = run_bytes(size, config, cuda=False) + checkpoint_bytes(size, config.method, cuda=False)
    free(needed)
    assert faults((config, size)) == []
    free(needed - 1)
    assert len(faults((config, size))) == 1


def test_what_runs_need_on_one_disk_is_summed(
    config: Config, size: ModelSize, outputs: Path, free: Callable[[int], None]
) -> None:
    runs = [(changed(config, outputs=str(outputs / name), run_name=name), size) for name in "abc"]
    one = run_bytes(size, config, cuda=False)
    free(3 * one + checkpoint_bytes(size, config.method, cuda=False) - 1)
    (fault,) = faults(*runs)
    assert "3 runs may need" in fault.problem
    assert faults(*runs[:2]) == []


def test_each_disk_is_looked_at_by_itself(
    config: Config, size: ModelSize, free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "disk_of", lambda path: len(path.parent.name))
    free(0)
    found = faults(*((changed(config, outputs=name), size) for name in ("aa", "b", "cc")))
    assert [(fault.got, fault.problem.partition(" may")[0]) for fault in found] == [("aa", "2 runs"), ("b", "1 run")]


def test_what_earlier_attempt_left_is_not_needed_again(
    config: Config, size: ModelSize, free: Callable[[int], None]
) -> None:
    needed = run_bytes(size, config, cuda=False) + checkpoint_bytes(size, config.method, cuda=False)
    left = config.run_path / "checkpoints" / "step-1"
    left.mkdir(parents=True)
    (left / "optimizer.pt").write_bytes(bytes(1000))
    free(needed - 1000)
    assert faults((config, size)) == []
    # What is moved aside stays on the disk.
    assert len(faults((changed(config, overwrite=True), size))) == 1


def test_a_model_of_unknown_size_is_not_estimated(config: Config, free: Callable[[int], None]) -> None:
    free(0)
    assert faults((config, None)) == []


def warnings_of(caplog: pytest.LogCaptureFixture, memory: int, *runs: tuple[Config, ModelSize | None]) -> list[str]:
    warn_about_memory(runs, Machine("cuda", "Tesla T4", memory))
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    return [record.getMessage() for record in caplog.records]


def test_small_memory_is_warned_of_with_remedies(
    config: Config, size: ModelSize, caplog: pytest.LogCaptureFixture
) -> None:
    (warning,) = warnings_of(caplog, 2**29, (changed(config, train__gradient_checkpointing=False), size))
    assert warning.startswith(f"method=lora with {config.model.title} may need 0.5 GiB (context 0.5")
    assert "4 pairs of train.max_length=1024 come together; Tesla T4 has 0.5" in warning
    for remedy in ("gradient_checkpointing=true", "smaller train.micro_batch", "method=qlora", "train.max_length"):
        assert remedy in warning


def test_remedies_that_are_in_use_are_not_advised(
    config: Config, size: ModelSize, caplog: pytest.LogCaptureFixture
) -> None:
    (warning,) = warnings_of(caplog, 0, (changed(config, method=QLORA, train__micro_batch=1), size))
    assert "checkpointing" not in warning
    assert "micro_batch" not in warning
    assert "method=qlora or" not in warning


def test_one_warning_for_every_method_and_model(
    config: Config, size: ModelSize, caplog: pytest.LogCaptureFixture
) -> None:
    lengths = [changed(config, train__max_length=length) for length in (128, 1024, 512)]
    qloras = [changed(each, method=QLORA) for each in lengths]
    found = warnings_of(caplog, 0, *((each, size) for each in [*lengths, *qloras]))
    assert [warning.partition(" with")[0] for warning in found] == ["method=lora", "method=qlora"]
    assert all("train.max_length=1024" in warning for warning in found)


def test_a_cell_beside_that_fits_nowhere_changes_no_warning(
    config: Config, size: ModelSize, caplog: pytest.LogCaptureFixture
) -> None:
    auto = changed(config, train__micro_batch="auto", train__gradient_checkpointing="auto")
    beside = changed(auto, method__rank=100_000)
    (warning,) = warnings_of(caplog, 2**30, (auto, size), (beside, size))
    assert "1 pairs of train.max_length" in warning
    assert "checkpointing" not in warning


def test_unknown_or_untrained_sizes_are_not_warned_of(
    config: Config, size: ModelSize, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(caplog, 0, (changed(config, method=NONE), size), (config, None)) == []


@pytest.mark.parametrize(
    ("arguments", "key", "got"),
    [
        pytest.param(["precision=fp16"], "precision", "fp16", marks=pytest.mark.slow),
        pytest.param(
            ["method.target_modules=[q_proj,vproj]"], "method.target_modules", ["q_proj", "vproj"],
            marks=pytest.mark.slow,
        ),
        (["-m", "method=none,lora", "train.max_length=16"], "train.max_length", 16),
    ],
)  # fmt: skip
def test_command_refuses_and_leaves_runs_unchanged(
    arguments: list[str], key: str, got: Any, tmp_path: Path, micro_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said = tmp_path / "here", tmp_path / "faults.json"
    folder.mkdir()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("MEDQA_FAULTS_FILE", str(said))
    done = train(*TINY, f"model.path={micro_model}", "method=lora", "data=20k", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    (fault,) = json.loads(said.read_text(encoding="utf-8"))["faults"]
    assert (fault["key"], fault["got"]) == (key, got)
    assert done.stderr.splitlines()[-1] == f"error: {fault['message']}"
    assert "Traceback" not in done.stderr
    assert [name for name in files_below(folder) if "cache" not in name] == []


def test_unusable_model_is_refused_before_its_folder_exists(
    tmp_path: Path, micro_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDQA_FAULTS_FILE", str(tmp_path / "faults.json"))
    model = Path(shutil.copytree(micro_model, tmp_path / "model"))
    (model / "chat_template.jinja").unlink()
    before = files_below(model)
    done = train(*TINY, f"model.path={model}", "method=lora", "data=20k", cwd=tmp_path)
    assert done.returncode == 2
    (fault,) = json.loads((tmp_path / "faults.json").read_text(encoding="utf-8"))["faults"]
    assert fault["code"] == "template-missing"
    assert files_below(model) == before
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    ("begun", "changes", "refused"),
    [
        ("fp16", {}, True),
        ("fp32", {}, False),
        (None, {}, False),
        ("fp16", {"precision": "fp16"}, False),  # then it is part of what makes two runs the same
        ("fp16", {"overwrite": True}, False),
    ],
)
def test_run_is_resumed_only_in_its_precision(
    config: Config, begun: str | None, changes: dict[str, Any], refused: bool
) -> None:
    run = RunDir(config.run_path)
    run.write(record(status="interrupted", environment=Environment({}, "NVIDIA T4", begun, None, [])))
    run.checkpoints_path.mkdir()
    found = list(precision_faults([changed(config, **changes)], CPU))
    assert bool(found) is refused
    if refused:
        (fault,) = found
        assert (fault.code, fault.key, fault.got) == ("precision-changed", "precision", "auto")
        assert fault.file == str(run.path)
        assert "overwrite=true" in fault.hint
        for figure in ("fp16", "NVIDIA T4", "fp32"):
            assert figure in fault.problem
    run.checkpoints_path.rmdir()
    assert not list(precision_faults([config], CPU))  # nothing was kept


def test_blocks_in_fp32_are_refused_where_everything_is(config: Config) -> None:
    (fault,) = precision_faults([changed(config, fp32_blocks=["mlp"])], CPU)
    assert (fault.code, fault.key, fault.got) == ("conflict", "fp32_blocks", ["mlp"])
    half = Machine("cuda", "Tesla T4", 2**34, "fp16")
    assert not list(precision_faults([changed(config, fp32_blocks=["mlp"])], half))


def test_blocks_that_the_model_lacks_are_refused_before_the_run(micro_model: Path) -> None:
    need = Need(str(micro_model), VALID.method, "auto", 512, fp32_blocks=("layers.99.mlp",))
    (fault,) = check_needs([need]).faults
    assert (fault.code, fault.key, fault.got) == ("no-such-module", "fp32_blocks", ["layers.99.mlp"])
    assert not check_needs([dataclasses.replace(need, fp32_blocks=("layers.0.mlp", "self_attn"))]).faults
