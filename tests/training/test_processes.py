"""Several processes train one cell: the same curves as one, stopped together, resumed by another number of them."""

import json
import os
import signal
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path

import psutil
import pytest

from medqa_finetune.config.schema import Config, MethodConfig, TrainConfig
from medqa_finetune.data.examples import IGNORED
from medqa_finetune.data.token_sets import Item
from medqa_finetune.errors import ConfigError
from medqa_finetune.preflight import check_processes
from medqa_finetune.ranks import (
    LOCAL_RANK,
    SIZE,
    STARTED_VARIABLE,
    VARIABLES,
    Place,
    RankLostError,
    refuse_several,
    this_place,
)
from medqa_finetune.record.read import read_record
from medqa_finetune.summarize import summarize
from medqa_finetune.training import group as group_module
from medqa_finetune.training.batches import Collator, share_out
from medqa_finetune.training.group import Group, Peer
from scripts.command_line import environment
from tests.commands import here, python
from tests.training.together import (
    LONG,
    assert_equal_curves,
    command,
    lines_in,
    newest_step,
    ranks_of,
    record_in,
    run,
    training,
    training_in,
)

LORA = "method=lora"
LENGTHS = (3, 30, 7, 7, 12, 25, 3, 9)


def item(length: int) -> Item:
    ids = list(range(100 * length, 100 * length + length))
    return {"input_ids": ids, "labels": [IGNORED, *ids[1:]]}


def place_of(rank: int, size: int, **others: str) -> dict[str, str]:
    values = (rank, size, rank, size, "localhost", 1)
    return {**dict(zip(VARIABLES, map(str, values), strict=True)), **others}


# ---------------------------------------------------------------------------- shares of a step


@pytest.mark.parametrize("shares", [1, 2, 3, 8, 11])
def test_shares_are_of_about_equal_tokens(shares: int) -> None:
    found = share_out(LENGTHS, shares)
    assert sorted(chain.from_iterable(found)) == list(range(len(LENGTHS)))
    counts = [len(share) for share in found]
    assert max(counts) - min(counts) <= 1
    tokens = [sum(LENGTHS[example] for example in share) for share in found]
    assert max(tokens) - min(tokens) <= max(LENGTHS)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_processes_take_every_example_once_in_equal_numbers_of_passes(ranks: int, packing: bool) -> None:
    items = [item(length) for length in LENGTHS[:4]]
    steps = [Collator(2, 30, packing, 0, rank, ranks)(items) for rank in range(ranks)]
    assert len({len(step["batches"]) for step in steps}) == 1
    assert {step["work"] for step in steps} == {Collator(2, 30, packing, 0)(items)["work"]}
    targets = [target for step in steps for batch in step["batches"] for target in batch["targets"].tolist()]
    assert sorted(targets) == sorted(label for each in items for label in each["labels"] if label != IGNORED)


# ---------------------------------------------------------------------------- what is refused


def test_variables_say_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_place() == Place(0, 1)
    for name, value in place_of(1, 2).items():
        monkeypatch.setenv(name, value)
    assert this_place() == Place(1, 2)
    monkeypatch.delenv(LOCAL_RANK)
    with pytest.raises(ConfigError) as missing:
        this_place()
    assert [(fault.code, fault.key) for fault in missing.value.faults] == [("missing", LOCAL_RANK)]


def test_processes_of_several_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in place_of(0, 4, LOCAL_WORLD_SIZE="2").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        this_place()
    assert [(fault.code, fault.key, fault.got) for fault in refused.value.faults] == [("not-supported", SIZE, 4)]


@pytest.mark.parametrize(
    ("method", "batch", "code"),
    [
        (MethodConfig(name="none", trains="nothing"), 8, "no-effect"),
        (MethodConfig(name="lora"), 1, "out-of-range"),
        (MethodConfig(name="lora"), 2, None),
    ],
)
def test_what_processes_cannot_share_is_refused(
    method: MethodConfig, batch: int, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(method=method, train=TrainConfig(batch_size=batch))
    check_processes(config)
    for name, value in place_of(0, 2).items():
        monkeypatch.setenv(name, value)
    if code is None:
        check_processes(config)
        return
    with pytest.raises(ConfigError) as refused:
        check_processes(config)
    assert [(fault.code, fault.key, fault.got) for fault in refused.value.faults] == [(code, SIZE, 2)]


def test_the_first_process_alone_says_that_a_command_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_several("")
    for rank, error in ((0, ConfigError), (1, SystemExit)):
        for name, value in place_of(rank, 2).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(error):
            refuse_several("")


def test_other_commands_take_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in place_of(0, 2).items():
        monkeypatch.setenv(name, value)
    done = here(summarize, "format=json", cwd=tmp_path)
    assert done.returncode == 2
    (fault,) = json.loads(done.stdout)["faults"]
    assert (fault["code"], fault["key"], fault["got"]) == ("not-supported", SIZE, 2)


@pytest.mark.slow
def test_a_matrix_under_torchrun_is_refused(tmp_path: Path) -> None:
    variables = place_of(0, 2)
    done = python("-m", "medqa_finetune.train", "-m", "profile=demo", cwd=tmp_path, timeout=60, **variables)
    assert done.returncode == 2
    assert "hydra.launcher.gpus_per_cell" in done.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- one of them is gone


@pytest.fixture
def lost_peer() -> Group:
    """The group of this process and of one that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    group = Group(Place(0, 2))
    group.peers = (Peer(os.getpid(), "CPU"), Peer(ended.pid, "CPU"))
    return group


def test_an_error_that_the_end_of_another_process_causes_is_that_end(lost_peer: Group) -> None:
    noted: list[RankLostError] = []
    lost_peer.watch(noted.append)
    with pytest.raises(RankLostError) as lost, lost_peer.noticing_losses():
        raise RuntimeError("Connection closed by peer")
    assert lost.value.fault.code == "process-lost"
    assert noted == [lost.value]


def test_errors_of_a_process_alone_stay_what_they_are() -> None:
    group = Group()
    with pytest.raises(RuntimeError, match="its own"), group.noticing_losses():
        raise RuntimeError("its own")
    assert (group.size, group.share(3), group.largest(4, 5)) == (1, 3, [4, 5])


def test_a_main_thread_that_waits_forever_is_ended(lost_peer: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, noted = threading.Event(), list[RankLostError]()
    monkeypatch.setattr(group_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(group_module, "NOTICE_SECONDS", 0.05)
    monkeypatch.setattr(group_module, "_end_at_once", ended.set)
    lost_peer.watch(noted.append)
    assert ended.wait(10)
    assert [each.fault.code for each in noted] == ["process-lost"]


# ---------------------------------------------------------------------------- two processes against one


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "layout"), [("lora", "packed"), ("qlora", "packed"), ("full", "packed"), ("lora", "padded")]
)
def test_two_processes_train_as_one(method: str, layout: str, micro_model: Path, tmp_path: Path) -> None:
    packing = f"train.packing={str(layout == 'packed').lower()}"
    # Of 20 examples in batches of 7, the last step of an epoch has 6; a pass takes 2.
    arguments = (f"model.path={micro_model}", f"method={method}", "data=20k", "train.batch_size=7", "train.max_steps=5",
                 "train.micro_batch=2", "train.max_length=64", packing)  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    for processes, outputs in enumerate((one, two), start=1):
        done = run(processes, outputs, *arguments)
        assert done.returncode == 0, done.stderr
    assert_equal_curves(one, two)
    alone, together = training_in(one), training_in(two)
    assert (alone.processes, alone.devices) == (1, [])
    assert (together.processes, together.devices) == (2, ["CPU", "CPU"])
    assert (together.samples, together.tokens, together.answer_tokens) == (
        alone.samples, alone.tokens, alone.answer_tokens,
    )  # fmt: skip
    assert record_in(two).identity == record_in(one).identity
    answers = [lines_in(outputs, "demo/*/evaluations/*/predictions.jsonl") for outputs in (one, two)]
    assert [each["prediction"] for each in answers[0]] == [each["prediction"] for each in answers[1]]


# ---------------------------------------------------------------------------- stopped, lost, resumed


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_stopped_training_goes_on_with_another_number_of_processes(
    before: int, after: int, micro_model: Path, tmp_path: Path
) -> None:
    model = f"model.path={micro_model}"
    assert run(1, tmp_path / "whole", *LONG, LORA, model).returncode == 0
    outputs = tmp_path / "stopped"
    with training(before, outputs, LORA, model) as process:
        process.terminate()
        assert process.wait(60) != 0
    stopped = record_in(outputs)
    assert stopped.status == "interrupted"
    # The step that a signal came in is the last one, and has a checkpoint.
    newest = newest_step(outputs)
    assert lines_in(outputs, "demo/*/metrics.jsonl")[-1]["step"] == newest
    done = run(after, outputs, *LONG, LORA, model)
    assert done.returncode == 0, done.stderr
    found = training_in(outputs)
    assert (found.resumed_from, found.processes) == ([newest], after)
    assert_equal_curves(tmp_path / "whole", outputs)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_process_ends_the_training_and_is_recorded(rank: int, micro_model: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "lost"
    with training(2, outputs, LORA, f"model.path={micro_model}") as process:
        ranks = ranks_of(process.pid)
        os.kill(ranks[rank].pid, signal.SIGKILL)
        assert process.wait(60) != 0
        assert psutil.wait_procs(ranks, timeout=10)[1] == []
    record = record_in(outputs)
    assert record.status == "failed"
    assert record.failure is not None
    assert [fault["code"] for fault in record.failure.faults] == ["process-lost"]
    assert not record.failure.final
    done = run(2, outputs, *LONG, LORA, f"model.path={micro_model}")
    assert done.returncode == 0, done.stderr
    assert record_in(outputs).status == "done"


@pytest.mark.slow
def test_a_finished_run_lets_the_other_processes_end(micro_model: Path, tmp_path: Path) -> None:
    arguments = (f"model.path={micro_model}", "method=lora", "data=20k")
    assert run(1, tmp_path / "runs", *arguments).returncode == 0
    before = record_in(tmp_path / "runs")
    assert run(2, tmp_path / "runs", *arguments).returncode == 0
    assert record_in(tmp_path / "runs") == before


@pytest.mark.slow
def test_bad_input_is_refused_once(micro_model: Path, tmp_path: Path) -> None:
    done = run(2, tmp_path / "runs", f"model.path={micro_model}", "method=lora", "data=20k", "train.batch_size=1")
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        "error: WORLD_SIZE=2: must be at most train.batch_size=1: each process trains on a part of every step."
    ]
    assert not (tmp_path / "runs" / "demo").exists()


@pytest.mark.slow
def test_cells_of_a_matrix_train_in_several_processes_each(micro_model: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "runs"
    arguments = ("-m", f"model.path={micro_model}", "method=none,lora", "data=20k")
    # As the launcher sets it for two GPUs, which this machine need not have.
    variables = environment(tmp_path) | {STARTED_VARIABLE: "2"}
    done = subprocess.run(
        command(1, outputs, *arguments), cwd=tmp_path, env=variables,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [read_record(path) for path in outputs.glob("demo/*/record.json")]
    assert {record.method: record.train and record.train.processes for record in records} == {"none": None, "lora": 2}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 0])
def test_a_cell_that_loses_a_process_is_tried_again(rank: int, micro_model: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "runs"
    with training(1, outputs, "-m", LORA, f"model.path={micro_model}", **{STARTED_VARIABLE: "2"}) as launcher:
        (cell,) = psutil.Process(launcher.pid).children()
        (other,) = cell.children()
        (other if rank else cell).kill()
        assert launcher.wait(120) == 0
        assert psutil.wait_procs([cell, other], timeout=10)[1] == []
    record = record_in(outputs)
    assert record.status == "done"
    assert record.train is not None
    assert record.train.processes == 2
    assert record.train.resumed_from[0] >= 20
