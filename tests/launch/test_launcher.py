"""The launcher by its command line, under a program that is none of ours, with a record of its runs and without."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.launcher import LocalLauncherConfig, _check, quote_override
from medqa_finetune.launch.scheduler import Job, label_jobs
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import FileStamp, Record
from scripts.command_line import environment
from tests import warm
from tests.commands import files_below, python
from tests.faulty import only_fault
from tests.launch.children import ROOT, gone, wait_for

PROGRAM = ROOT / "tests" / "launch" / "program.py"
LOCAL = ("-m", "hydra/launcher=local", "hydra.sweep.dir=out", "hydra.sweep.subdir=${name}")
VARIABLES = {"CUDA_VISIBLE_DEVICES": "", "HYDRA_FULL_ERROR": "1"}


def run(*arguments: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return python(str(PROGRAM), *LOCAL, *arguments, cwd=cwd, timeout=120, **(VARIABLES | variables))


@contextmanager
def running(*arguments: str, cwd: Path, **variables: str) -> Iterator[warm.Forked]:
    given = environment(cwd) | VARIABLES | variables
    with warm.start([str(PROGRAM), *LOCAL, *arguments], cwd=cwd, variables=given) as process:
        try:
            yield process
        finally:
            process.kill()


def starts(cwd: Path, name: str) -> int:
    return len((cwd / "out" / name / "starts").read_text(encoding="utf-8"))


def record_of(cwd: Path, name: str) -> Record:
    record = RunDir(cwd / "out" / name).read()
    assert record is not None
    return record


def at_work(cwd: Path, name: str) -> int:
    """Wait until a cell that keeps a record is at work, and return its process."""
    wait_for(cwd / "out" / name / "starts")
    process = record_of(cwd, name).process
    assert process is not None
    return process.pid


def test_launcher_imports_only_records_and_configuration() -> None:
    code = (
        "import sys, medqa_finetune.launch.launcher\n"
        "print(*sorted({'.'.join(name.split('.')[1:2]) for name in sys.modules if name.startswith('medqa_finetune.')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    below = [
        "architecture",
        "child_process",
        "compat",
        "cores",
        "errors",
        "languages",
        "log",
        "methods",
        "ranks",
        "precision",
        "progress",
        "runtime",
        "stopping",
    ]
    assert done.stdout.split() == sorted([*below, "config", "launch", "record", "versions"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_parallel", 0), ("max_parallel", -1), ("gpus_per_cell", -1), ("retries", -1), ("grace_seconds", -1.0),
     ("grace_seconds", float("nan")), ("grace_seconds", float("inf"))],
)  # fmt: skip
def test_setting_that_no_launch_can_have_is_refused(key: str, value: float) -> None:
    settings = LocalLauncherConfig()
    setattr(settings, key, value)
    with pytest.raises(ConfigError) as caught:
        _check(settings)
    fault = only_fault(caught)
    assert (fault.code, fault.key, str(fault.got)) == ("out-of-range", f"hydra.launcher.{key}", str(value))


def test_settings_at_their_limits_are_taken() -> None:
    _check(LocalLauncherConfig(max_parallel=1, gpus_per_cell=0, retries=0, grace_seconds=0))


@pytest.mark.parametrize(
    "text",
    ["a b", "a'b", 'a"b', "a\\b", "a\\", "a\\'b", "a\\\\", "'", "", "中文 [x]=1,2", "a,b", "k=v", "${x}", "$x", "{a}"],
)
def test_any_text_can_be_quoted(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    override = OverridesParser.create().parse_override(f"key={quote_override(text)}")
    assert OmegaConf.create({"key": override.value()}).key == text


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["lora_20k", "qlora_20k"], ["lora_20k", "qlora_20k"]),
        (["lora_20k__model=m__seed=1", "lora_20k__model=m__seed=2"], ["lora_20k seed=1", "lora_20k seed=2"]),
        (["lora_20k__seed=1", "lora_20k"], ["lora_20k seed=1", "lora_20k"]),
        (["lora_20k__seed=1"], ["lora_20k"]),
        ([], []),
    ],
)
def test_names_are_shown_without_what_all_cells_share(names: list[str], labels: list[str]) -> None:
    jobs = [Job(name.split("__"), [], CellDir(RunDir(Path(name))), None) for name in names]
    label_jobs(jobs)
    assert [job.label for job in jobs] == [f"[{n}/{len(names)}] {label}" for n, label in enumerate(labels, start=1)]


def test_program_without_a_record_runs_in_its_folder(tmp_path: Path) -> None:
    done = run("name=a,b,'c d'", "hydra.job.chdir=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert [starts(tmp_path, name) for name in ("a", "b", "c d")] == [1, 1, 1]
    assert (tmp_path / "out" / "a" / ".hydra" / "overrides.yaml").read_text(encoding="utf-8") == "- name=a\n"
    # What was typed for Hydra itself holds for the cells.
    assert "hydra.job.chdir=true" in (tmp_path / "out" / "a" / ".hydra" / "hydra.yaml").read_text(encoding="utf-8")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "c d", "multirun.yaml"]
    lines = [line.split("  ")[:2] for line in done.stderr.splitlines()]
    assert lines[0] == ["[1/3] name=a", "running"]
    assert lines[-1] == ["[3/3] name='c d'", "done"]


def test_program_without_record_fails_by_its_exit_code(tmp_path: Path) -> None:
    done = run("name=a", "end=badly,well", "hydra.launcher.retries=2", cwd=tmp_path)
    assert done.returncode == 1
    assert starts(tmp_path, "a") == 4  # three times badly, once well
    assert "[2/2] end=well  done" in done.stderr
    assert "ValueError: bad luck" in done.stderr
    assert "; trying again (2 of 2)" in done.stderr
    assert "\n      File " in done.stderr  # of its last lines, below the reason


def test_configured_multirun_does_not_sweep_in_cells(tmp_path: Path) -> None:
    done = python(str(PROGRAM), *LOCAL[1:], "hydra.mode=MULTIRUN", "name=a,b", cwd=tmp_path, timeout=60, **VARIABLES)
    assert done.returncode == 0, done.stderr
    assert [starts(tmp_path, name) for name in "ab"] == [1, 1]


def test_cells_see_the_gpus_of_their_slot(tmp_path: Path) -> None:
    gpus = [f"{kind}-{os.getpid()}" for kind in ("G", "M")]
    done = run("name=a,b", "seconds=1", cwd=tmp_path, CUDA_VISIBLE_DEVICES=",".join(gpus))
    assert done.returncode == 0, done.stderr
    started = [line for line in done.stderr.splitlines() if "running" in line]
    assert [line.rpartition("GPU ")[2] for line in started[:2]] == gpus


def test_a_second_launch_waits_for_the_gpu_of_the_first_also_after_that_was_killed(tmp_path: Path) -> None:
    gpu = {"CUDA_VISIBLE_DEVICES": f"K-{os.getpid()}"}
    with running("name=a", "seconds=2.5", cwd=tmp_path, **gpu) as first:
        wait_for(tmp_path / "out" / "a" / "starts")
        first.kill()
        first.wait()
    # The cell, which does not watch its launcher, goes on.
    began = time.monotonic()
    done = run("name=b", cwd=tmp_path, **gpu)
    assert done.returncode == 0, done.stderr
    assert f"waiting for GPUs that other launches on this machine use: K-{os.getpid()}" in done.stderr
    assert time.monotonic() - began > 0.5


def test_another_machine_goes_on_where_the_first_is_gone(tmp_path: Path) -> None:
    lease = {"MEDQA_LEASE_SECONDS": "2"}
    names = ("name=a,b", "record=true")
    with running(*names, "seconds=60", cwd=tmp_path, MEDQA_HOST="node1", **lease) as first:
        cell = at_work(tmp_path, "a")
        first.kill()
        os.kill(cell, signal.SIGKILL)
    done = run(*names, cwd=tmp_path, MEDQA_HOST="node2", **lease)
    assert done.returncode == 0, done.stderr
    assert f"[1/2] name=a  running elsewhere: process {cell} on node1" in done.stderr
    assert [starts(tmp_path, name) for name in "ab"] == [2, 1]
    assert not list(tmp_path.rglob("*.lease*"))


def test_too_many_gpus_are_refused_before_the_start(tmp_path: Path) -> None:
    done = run("name=a,b", "hydra.launcher.gpus_per_cell=3", cwd=tmp_path, CUDA_VISIBLE_DEVICES="0,1")
    assert done.returncode == 1  # by Hydra, for a program that does not know our errors
    assert "hydra.launcher.gpus_per_cell=3: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_cells_in_parallel_take_less_time(tmp_path: Path) -> None:
    done = run("name=a,b,c", "seconds=2", "hydra.launcher.max_parallel=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first_end = next(n for n, line in enumerate(done.stderr.splitlines()) if "done" in line)
    assert first_end == 3


def test_done_run_is_never_touched_again(tmp_path: Path) -> None:
    assert run("record=true", "name=a,b", cwd=tmp_path).returncode == 0
    folder = RunDir(tmp_path / "out" / "a")
    record = folder.read()
    assert record is not None
    folder.write(record.updated(files={name: FileStamp(1, "0" * 64) for name in ("adapter/x", "predictions.jsonl")}))
    before = files_below(tmp_path / "out" / "a") | files_below(tmp_path / "out" / "b")
    done = run("record=true", "name=a,b", cwd=tmp_path)
    assert done.returncode == 0
    assert files_below(tmp_path / "out" / "a") | files_below(tmp_path / "out" / "b") == before
    lines = [line for line in done.stderr.splitlines() if "done before, untouched" in line]
    # Files that are missing are counted.
    assert [" 2 of its files " in line for line in lines] == [True, False]


def test_two_launches_at_once_share_the_work(tmp_path: Path) -> None:
    names = "abcd"
    arguments = ("record=true", "seconds=0.3", f"name={','.join(names)}", "hydra.launcher.max_parallel=2",
                 "hydra.launcher.retries=0")  # fmt: skip
    with running(*arguments, cwd=tmp_path) as first, running(*arguments, cwd=tmp_path) as second:
        said = [process.communicate(timeout=120)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    assert {name: starts(tmp_path, name) for name in names} == dict.fromkeys(names, 1)
    for text in said:
        assert len([line for line in text.splitlines() if "  done" in line]) == len(names)
    assert "done by another process" in "".join(said)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        signal.SIGHUP,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGUSR2)),
    ],
    ids=lambda number: number.name,
)
def test_a_signal_stops_all_cells_in_good_order(number: signal.Signals, tmp_path: Path) -> None:
    arguments = ("record=true", "seconds=60", "name=a,b,c", "hydra.launcher.max_parallel=2")
    with running(*arguments, cwd=tmp_path) as launcher:
        cells = [at_work(tmp_path, name) for name in "ab"]
        launcher.send_signal(number)
        _, said = launcher.communicate(timeout=30)
    assert launcher.returncode == 128 + number
    assert all(map(gone, cells))
    assert [record_of(tmp_path, name).status for name in "ab"] == ["interrupted"] * 2
    assert not (tmp_path / "out" / "c").exists()
    assert said.startswith("[1/3] name=a  ")  # what all cells share is left out
    assert "stopping 2 cells" in said
    assert said.count("interrupted: stopped by SIGTERM") == 2


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with running("record=true", "seconds=60", "end=stubbornly", "name=a,b", cwd=tmp_path) as launcher:
        cell = at_work(tmp_path, "a")
        launcher.send_signal(signal.SIGINT)
        time.sleep(1)
        assert launcher.poll() is None
        assert not gone_now(cell)
        launcher.send_signal(signal.SIGINT)
        launcher.communicate(timeout=20)
    assert launcher.returncode == 130
    assert gone(cell)
    assert record_of(tmp_path, "a").status == "interrupted"


def test_cell_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    arguments = ("record=true", "seconds=60", "end=stubbornly", "name=a,b", "hydra.launcher.grace_seconds=1")
    with running(*arguments, cwd=tmp_path) as launcher:
        cell = at_work(tmp_path, "a")
        launcher.send_signal(signal.SIGTERM)
        launcher.communicate(timeout=20)
    assert launcher.returncode == 143
    assert gone(cell)
    failure = record_of(tmp_path, "a").failure
    assert failure is not None
    assert failure.message.startswith("it was asked to stop, did not in time, and was killed")


def gone_now(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_same_command_goes_on_after_launcher_was_killed(tmp_path: Path) -> None:
    arguments = ("record=true", "name=a,b", "seconds=3", "hydra.launcher.retries=0")
    with running(*arguments, cwd=tmp_path) as launcher:
        cell = at_work(tmp_path, "a")
        launcher.kill()
    assert gone(cell)
    assert record_of(tmp_path, "a").status == "interrupted"
    again = run(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [starts(tmp_path, name) for name in "ab"] == [2, 1]


def test_a_killed_cell_is_started_again(tmp_path: Path) -> None:
    with running("record=true", "name=a", "seconds=3", cwd=tmp_path) as launcher:
        os.kill(at_work(tmp_path, "a"), signal.SIGKILL)
        _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, said
    assert starts(tmp_path, "a") == 2
    assert "SIGKILL before the run was done (killed from outside: often the system, out of memory)" in said


def test_cell_stopped_by_hand_is_not_restarted(tmp_path: Path) -> None:
    with running("record=true", "name=a,b", "seconds=3", cwd=tmp_path) as launcher:
        os.kill(at_work(tmp_path, "a"), signal.SIGTERM)
        launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert [starts(tmp_path, name) for name in "ab"] == [1, 1]
    assert [record_of(tmp_path, name).status for name in "ab"] == ["interrupted", "done"]
