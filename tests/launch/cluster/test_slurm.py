"""What SLURM is asked for, and what its answers mean."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.cluster.naming import digest_of, job_name
from medqa_finetune.launch.cluster.queue import Element, End, QueueSilentError, State, live_by_name
from medqa_finetune.launch.cluster.script import batch_script
from medqa_finetune.launch.cluster.settings import SlurmLauncherConfig
from medqa_finetune.launch.cluster.slurm import SlurmQueue, check_commands
from tests.cells import cell_in
from tests.faulty import only_fault
from tests.launch.cluster.conftest import FakeSlurm


def element(outputs: Path, after: str | None = None, **values: Any) -> Element:
    cell = cell_in(outputs, **values)
    return Element(job_name(cell), cell, after)


def queue(tmp_path: Path, **settings: object) -> SlurmQueue:
    return SlurmQueue(SlurmLauncherConfig(**settings), tmp_path / "slurm")  # type: ignore[arg-type]


def submitted(slurm: FakeSlurm) -> list[str]:
    """Return the options of the one submission."""
    (options,) = [call for call in slurm.calls("sbatch") if "--test-only" not in call]
    return options


def test_one_array_with_a_cell_for_each_element(slurm: FakeSlurm, tmp_path: Path) -> None:
    elements = [element(tmp_path / each) for each in "abc"]
    with (own := queue(tmp_path, max_parallel=2, gpus_per_cell=2, time="4:00:00", options=["--qos=long"])).lock():
        sent = own.submit(elements)
    assert {"--array=0-2%2", "--gres=gpu:2", "--time=4:00:00", "--signal=USR2@120", "--requeue", "--qos=long",
            "--open-mode=append", f"--chdir={Path.cwd()}"} <= set(submitted(slurm))  # fmt: skip
    assert sent.ids == {each.name: f"1_{place}" for place, each in enumerate(elements)}
    assert list(slurm.jobs()) == [each.name for each in elements]
    assert {job["reason"] for job in slurm.jobs().values()} == {"Priority"}


def test_settings_that_are_not_given_are_left_to_slurm(slurm: FakeSlurm, tmp_path: Path) -> None:
    queue(tmp_path, gpus_per_cell=0).submit([element(tmp_path)])
    names = {option.partition("=")[0] for option in submitted(slurm)}
    assert not names & {"--partition", "--account", "--time", "--gres", "--cpus-per-task", "--mem"}


def test_evaluation_starts_after_the_training_of_its_run(slurm: FakeSlurm, tmp_path: Path) -> None:
    first = element(tmp_path)
    second = element(tmp_path, first.name, evaluate__max_samples=9)
    third = element(tmp_path, "7_1", evaluate__max_samples=8)
    queue(tmp_path).submit([first, second, third])
    after = {name: job.get("after") for name, job in slurm.jobs().items()}
    assert after == {first.name: None, second.name: "afterok:1_0", third.name: "afterok:7_1"}


def test_script_has_the_plain_command_line_of_every_cell(tmp_path: Path) -> None:
    cell = element(tmp_path / "结果 一,二's")
    cell.cell.__dict__["command"] = ("python", "-m", "medqa_finetune.train", "outputs=结果 一,二's", "x='a b'")
    script = batch_script([cell], SlurmLauncherConfig(setup=["module() { echo loaded $1; }", "module load cuda"]))
    # What comes last is replaced by what shows it.
    shown = script.replace("exec >>", ": >>").rpartition("exec ")[0] + 'printf "%s\\n" "$name" "$folder" "${cell[@]}"\n'
    done = subprocess.run(["bash", "-c", shown], env={"SLURM_ARRAY_TASK_ID": "0"}, capture_output=True, text=True,
                          check=True)  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[:3] == ["loaded load", cell.name, str(tmp_path / "结果 一,二's" / "slurm")]
    assert lines[4:] == ["-m", "medqa_finetune.train", "outputs=结果 一,二's", "x='a b'"]


def test_refusal_is_in_words_of_slurm_and_leaves_nothing(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.set(refuses="Invalid partition name specified")
    with pytest.raises(ConfigError) as caught:
        queue(tmp_path, partition="nowhere").check()
    fault = only_fault(caught)
    assert fault.code == "cluster-refused"
    assert "Invalid partition name specified" in fault.problem
    assert slurm.jobs() == {}


def test_test_that_fails_while_nodes_are_down_is_no_refusal(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.set(refuses="Required node not available (down, drained or reserved)")
    queue(tmp_path).check()


def test_array_whose_elements_cannot_be_named_is_cancelled(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.set(update_fails=True)
    with pytest.raises(ConfigError):
        queue(tmp_path).submit([element(tmp_path)])
    assert [job["state"] for job in slurm.jobs().values()] == ["CANCELLED"]


def test_array_of_a_launch_that_was_killed_is_cancelled(slurm: FakeSlurm, tmp_path: Path) -> None:
    own, other = queue(tmp_path), queue(tmp_path / "other")
    for each in (own, other):
        each.submit([element(tmp_path)])
        (sent,) = slurm.calls("sbatch")[-1:]
        unnamed = next(option for option in sent if option.startswith("--job-name="))
        slurm.change(element(tmp_path).name, name=unnamed.partition("=")[2])
    assert own.remove_unnamed(own.entries()) == ["1"]
    assert [job["state"] for job in slurm.jobs().values()] == ["CANCELLED", "PENDING"]
    assert own.remove_unnamed(own.entries()) == []


@pytest.mark.parametrize(
    ("word", "state", "end"),
    [("PENDING", State.QUEUED, None), ("REQUEUED", State.QUEUED, None), ("SUSPENDED", State.QUEUED, None),
     ("RUNNING", State.RUNNING, None), ("COMPLETING", State.RUNNING, None), ("COMPLETED", State.ENDED, End.BY_ITSELF),
     ("TIMEOUT", State.ENDED, End.TIME_LIMIT), ("NODE_FAIL", State.ENDED, End.NODE_LOST)],
)  # fmt: skip
def test_states_of_slurm(slurm: FakeSlurm, tmp_path: Path, word: str, state: State, end: End | None) -> None:
    job = {"array": 4, "index": 2, "name": "a|b", "state": word, "reason": "Priority"}
    slurm.set(jobs=[job])
    (entry,) = queue(tmp_path).entries()
    assert (entry.id, entry.name, entry.state, entry.end) == ("4_2", "a|b", state, end)


def test_ended_jobs_are_not_live(slurm: FakeSlurm, tmp_path: Path) -> None:
    ended = {"array": 1, "index": 0, "name": "a", "state": "CANCELLED", "reason": "None"}
    slurm.set(jobs=[ended, {**ended, "array": 2, "state": "PENDING"}, {**ended, "array": 3, "name": "b"}])
    assert {name: entry.id for name, entry in live_by_name(queue(tmp_path).entries()).items()} == {"a": "2_0"}


def test_silence_is_not_an_empty_queue(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.set(silent=True)
    with pytest.raises(QueueSilentError):
        queue(tmp_path).entries()


def test_missing_commands_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        check_commands()
    fault = only_fault(caught)
    assert fault.code == "not-installed"
    assert "sbatch" in fault.problem


def test_names_are_apart_and_fit_for_files_and_commands(tmp_path: Path) -> None:
    one, two = cell_in(tmp_path / "a"), cell_in(tmp_path / "b")
    assert job_name(one) != job_name(two)
    assert job_name(one) == job_name(cell_in(tmp_path / "a"))
    assert job_name(one) != job_name(cell_in(tmp_path / "a", evaluate__max_samples=9))
    assert job_name(one).endswith(digest_of(one.evaluation.path, one.identity))
    assert len(job_name(one).encode()) < 200
