"""W&B, MLflow and SwanLab for real, offline, by the real command line; skipped where an extra is not installed."""

import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.checks import TRACKERS
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.preflight import tracker_faults
from medqa_finetune.record.run_dir import RunDir, find_runs
from scripts.bad_input_cases.case import read_faults
from tests.commands import TINY, python, start
from tests.config.builders import VALID, changed
from tests.faulty import only_fault

WITHOUT_TRACKER = [word for word in TINY if not word.startswith("tracker=")]


def needs(extra: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(extra) is None, reason=f"needs the extra: pip install -e '.[{extra}]'")


@contextmanager
def listening() -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield an environment in which every call to the network goes to a proxy of ours, and what has called there."""
    server = socket.create_server(("127.0.0.1", 0))
    calls: list[str] = []

    def take() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                calls.append(connection.recv(200).decode("latin-1"))

    threading.Thread(target=take, daemon=True).start()
    proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
    names = ("http_proxy", "https_proxy", "all_proxy")
    try:
        yield {name: proxy for each in names for name in (each, each.upper())} | {"NO_PROXY": "", "no_proxy": ""}, calls
    finally:
        server.close()


def test_the_proxy_hears_what_calls_out(tmp_path: Path) -> None:
    code = "import urllib.request as r\ntry: r.urlopen('http://example.org', timeout=5)\nexcept OSError: pass"
    with listening() as (variables, calls):
        python("-c", code, cwd=tmp_path, **variables)
    assert len(calls) == 1
    assert "example.org" in calls[0]


def train_offline(tracker: str, model: Path, cwd: Path, *more: str) -> tuple[RunDir, list[str]]:
    """Run an experiment of seconds with a tracker; return its folder and what it called in the network."""
    with listening() as (variables, calls):
        done = python(
            "-m", "medqa_finetune.train", *WITHOUT_TRACKER, f"model.path={model}", "method=lora", "data=20k",
            f"tracker={tracker}", "train.logging_steps=1", *more, cwd=cwd, WANDB_MODE="offline", SWANLAB_MODE="offline",
            HOME=str(cwd / "home"), **variables,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "stopped" not in done.stderr
    (run,) = find_runs(cwd / "outputs")
    return run, calls


@needs("wandb")
@pytest.mark.slow
def test_weights_and_biases_offline(micro_model: Path, tmp_path: Path) -> None:
    run, calls = train_offline("wandb", micro_model, tmp_path)
    assert calls == []
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    (path,) = folder.glob("*.wandb")
    content = path.read_bytes()
    assert run.path.name[:40].encode() in content
    assert content.count(b"train/loss") >= 3
    assert b"eval/loss" in content
    assert b"cell.train_size" in content
    assert b"scores/rougeL" in content
    record = run.read()
    assert record is not None
    assert record.status == "done"
    assert not any(name.startswith("wandb") for name in record.files)


def mlflow_runs(outputs: Path, cwd: Path) -> list[dict[str, Any]]:
    """Return name, status and points of every run in the store, read in a process of its own."""
    code = (
        "import json, sys, mlflow\nfrom mlflow import MlflowClient\nmlflow.set_tracking_uri(sys.argv[1])\n"
        "c = MlflowClient()\nfound = c.search_runs([e.experiment_id for e in c.search_experiments()])\n"
        "print(json.dumps([{'name': r.info.run_name, 'status': r.info.status, 'params': r.data.params,"
        " 'rouge': r.data.metrics.get('scores/rougeL'), 'loss': [(m.step, m.value) for m in"
        " c.get_metric_history(r.info.run_id, 'loss')]} for r in found]))"
    )
    done = python("-c", code, f"sqlite:///{outputs / 'mlflow.db'}", cwd=cwd, MLFLOW_DISABLE_TELEMETRY="true")
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@needs("mlflow")
@pytest.mark.slow
def test_mlflow_offline(micro_model: Path, tmp_path: Path) -> None:
    run, calls = train_offline("mlflow", micro_model, tmp_path)
    assert calls == []
    (seen,) = mlflow_runs(tmp_path / "outputs", tmp_path)
    assert (seen["name"], seen["status"]) == (run.path.name, "FINISHED")
    assert (seen["params"]["cell.method"], seen["params"]["method.rank"]) == ("lora", "16")
    assert "None" not in seen["params"].values()
    record = run.read()
    assert record is not None
    assert record.evaluation is not None
    assert seen["rouge"] == pytest.approx(record.evaluation.scores["rougeL"].value)
    assert seen["loss"] == [[row["step"], pytest.approx(row["loss"])] for row in run.read_metrics() if "loss" in row]
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("outputs", "home", "no-cache")] == []


@needs("swanlab")
@pytest.mark.slow
def test_swanlab_offline(micro_model: Path, tmp_path: Path) -> None:
    run, calls = train_offline("swanlab", micro_model, tmp_path)
    assert calls == []
    (folder,) = (run.path / "swanlab").glob("run-*")
    settings = (folder / "files" / "config.yaml").read_text(encoding="utf-8")
    assert "cell.method:" in settings
    (path,) = folder.glob("*.swanlab")
    content = path.read_bytes()
    assert content.count(b"train/loss") >= 3
    assert b"eval/loss" in content
    assert b"scores/rougeL" in content
    record = run.read()
    assert record is not None
    assert not any(name.startswith("swanlab") for name in record.files)


@needs("swanlab")
@pytest.mark.slow
def test_swanlab_without_a_key_asks_nobody(micro_model: Path, tmp_path: Path) -> None:
    done = python(
        "-m", "medqa_finetune.train", *WITHOUT_TRACKER, f"model.path={micro_model}", "method=lora", "data=20k",
        "tracker=swanlab", cwd=tmp_path, HOME=str(tmp_path / "home"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("tracker swanlab stopped") == 1
    assert "SWANLAB_MODE=offline" in done.stderr


@needs("mlflow")
@pytest.mark.slow
def test_an_evaluation_of_later_is_a_row_of_its_own(micro_model: Path, tmp_path: Path) -> None:
    run, _ = train_offline("mlflow", micro_model, tmp_path)
    evaluate = (
        "-m",
        "medqa_finetune.evaluate",
        f"run={run.path}",
        f"model.path={micro_model}",
        "evaluate.max_samples=2",
    )
    done = python(*evaluate, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = mlflow_runs(tmp_path / "outputs", tmp_path)
    assert len(rows) == 2
    assert {row["params"]["evaluate.max_samples"] for row in rows} == {"unset", "2"}
    assert rows[0]["params"].keys() == rows[1]["params"].keys()


LONG = ("data.scale=0.02", "data.validation_size=200", "data.test_size=200", "train.max_steps=60",
        "train.checkpoint_steps=5", "train.batch_size=4")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("tracker", [pytest.param(name, marks=needs(name)) for name in ("wandb", "mlflow")])
def test_a_training_that_goes_on_continues_the_same_run(
    tracker: str, micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = [word for word in WITHOUT_TRACKER if word.partition("=")[0] not in {w.partition("=")[0] for w in LONG}]
    arguments += [*LONG, f"model.path={micro_model}", "method=lora", "data=20k", f"tracker={tracker}"]
    process = start(*arguments, "train.logging_steps=1", cwd=tmp_path)
    metrics = wait_for_step(tmp_path, 8)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 143
    done = python("-m", "medqa_finetune.train", *arguments, "train.logging_steps=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stopped (" not in done.stderr
    run = RunDir(metrics.parent)
    if tracker == "wandb":
        ids = [re.sub(r"offline-run-\d+_\d+-", "", path.name) for path in (run.path / "wandb").glob("offline-run-*")]
        assert len(ids) == 2
        assert len(set(ids)) == 1
    else:
        (seen,) = mlflow_runs(tmp_path / "outputs", tmp_path)
        assert seen["status"] == "FINISHED"
        assert {step for step, _ in seen["loss"]} == set(range(1, 61))


def wait_for_step(folder: Path, step: int) -> Path:
    """Return the metrics of the run that has come so far."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in folder.rglob("metrics.jsonl"):
            if path.read_text(encoding="utf-8").count("\n") >= step:
                return path
        time.sleep(0.05)
    raise AssertionError("no step was logged")


def check_missing(extra: str, *faults: Fault) -> None:
    (fault,) = faults
    assert (fault.code, fault.key, fault.got) == ("not-installed", "tracker.report_to", [extra])
    assert f"pip install 'medqa_finetune[{extra}]'" in fault.hint


@pytest.mark.parametrize("extra", ["wandb", "mlflow", "swanlab"])
def test_a_missing_extra_is_said_before_anything_starts(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    config = changed(VALID, tracker__report_to=["tensorboard", extra])
    check_missing(extra, *tracker_faults(config))


@pytest.mark.parametrize("extra", ["wandb", "mlflow"])
def test_without_the_extra_the_command_refuses(extra: str, micro_model: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules[sys.argv.pop()] = None\nfrom medqa_finetune.train import main; main()"
    done = python(
        "-c", code, *WITHOUT_TRACKER, f"model.path={micro_model}", "method=lora", "data=20k", f"tracker={extra}", extra,
        cwd=tmp_path, MEDQA_FAULTS_FILE=str(tmp_path / "faults.json"),
    )  # fmt: skip
    assert done.returncode == 2
    check_missing(extra, *read_faults(tmp_path / "faults.json"))
    assert not list(tmp_path.rglob("record.json"))


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        changed(VALID, tracker__report_to=["carrier-pigeon"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "tracker.report_to", "carrier-pigeon")
    assert fault.allowed == tuple(TRACKERS)
