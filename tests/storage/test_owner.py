"""Who works on a stored run: one process at a time, whatever clocks say."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medqa_finetune.errors import RunError
from medqa_finetune.storage import owner
from medqa_finetune.storage.owner import acquire, read_owner, this_owner, write_owner
from medqa_finetune.storage.remote import Remote
from medqa_finetune.storage.synced import OWNER
from tests.faulty import only_fault


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(str(tmp_path), "run")


def elsewhere(**changes: object) -> owner.Owner:
    return dataclasses.replace(this_owner(), host_identity="another machine", host="node7", pid=1, **changes)  # type: ignore[arg-type]


def test_a_run_that_nobody_works_on_is_taken(remote: Remote) -> None:
    own = acquire(remote, lambda: None)
    assert read_owner(remote) == own
    assert (own.pid, own.has_ended) == (os.getpid(), False)


def test_a_living_process_of_this_machine_keeps_it(remote: Remote) -> None:
    acquire(remote, lambda: None)
    with pytest.raises(RunError) as caught:
        acquire(remote, lambda: None)
    assert only_fault(caught).code == "held-elsewhere"


def test_a_dead_process_of_this_machine_loses_it_at_once(remote: Remote) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_owner(remote, dataclasses.replace(this_owner(), pid=ended.pid))
    begun = time.monotonic()
    acquire(remote, lambda: None, expiry=60)
    assert time.monotonic() - begun < 10


def test_another_process_with_its_number_is_not_it(remote: Remote) -> None:
    write_owner(remote, dataclasses.replace(this_owner(), started="1"))
    assert acquire(remote, lambda: None, expiry=60).started != "1"


def test_one_elsewhere_that_has_ended_loses_it_at_once(remote: Remote) -> None:
    write_owner(remote, elsewhere(has_ended=True))
    begun = time.monotonic()
    acquire(remote, lambda: None, expiry=60)
    assert time.monotonic() - begun < 10


def test_one_elsewhere_that_is_silent_loses_it_when_it_has_expired(remote: Remote) -> None:
    write_owner(remote, elsewhere())
    begun = time.monotonic()
    acquire(remote, lambda: None, expiry=0.5)
    assert time.monotonic() - begun >= 0.5


def test_one_elsewhere_that_beats_keeps_it_even_with_a_clock_ten_minutes_off(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = time.time
    monkeypatch.setattr(time, "time", lambda: here() + 600)
    first = elsewhere()
    write_owner(remote, first)
    timer = threading.Timer(0.5, lambda: write_owner(remote, dataclasses.replace(first, beats=1)))
    timer.start()
    with pytest.raises(RunError) as caught:
        acquire(remote, lambda: None, expiry=20)
    timer.join()
    fault = only_fault(caught)
    assert fault.code == "held-elsewhere"
    assert "node7" in fault.line()


def test_of_two_that_start_at_once_one_gets_it(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "SETTLING_SECONDS", 0.3)
    other = elsewhere()
    timer = threading.Timer(0.1, lambda: write_owner(remote, other))
    timer.start()
    with pytest.raises(RunError):
        acquire(remote, lambda: None, expiry=5)
    assert read_owner(remote) == other


def test_a_torn_owner_is_nobody(remote: Remote) -> None:
    remote.write(OWNER, b'{"id": ')
    acquire(remote, lambda: None)
