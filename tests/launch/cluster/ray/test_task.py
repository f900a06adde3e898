"""What a worker of Ray does, in this process."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from medqa_finetune.launch.cluster.ray.task import missing_paths, run_command


def test_command_runs_in_its_folder_and_its_output_is_the_result(tmp_path: Path) -> None:
    assert run_command(["pwd"], str(tmp_path)).strip() == str(tmp_path)


def test_failure_has_the_words_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        run_command(["bash", "-c", "echo no luck >&2; exit 3"], str(tmp_path))


def test_cancelled_task_closes_the_input_and_waits(tmp_path: Path) -> None:
    # As Ray does it: the interrupt comes from another thread.
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    assert run_command(["bash", "-c", "cat; echo stopped"], str(tmp_path)) == "stopped\n"
    assert time.monotonic() - began > 0.15
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_missing_paths_are_named(tmp_path: Path) -> None:
    assert missing_paths([str(tmp_path), str(tmp_path / "a"), "/"]) == str(tmp_path / "a")
