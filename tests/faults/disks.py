"""Disks and folders that fail: full, over quota, read-only, gone, moved."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.faults import checks
from tests.faults.checks import DISHONEST, LOST, TORN, expect
from tests.faults.inject import Strike
from tests.faults.stops import copy_runs
from tests.faults.trial import Reference, Trial
from tests.faults.warm import Ended

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
PRIVATE = 0x00040000 | 0x4000  # MS_PRIVATE | MS_REC
DETACH = 2
# What a message about a disk speaks of.
DISK_WORDS = ("space", "disk is full", "free", "quota", "too large", "cannot be written", "not writable", "Permission",
              "is gone", "No such file", "cannot be kept", "cannot be locked", "Input/output", "cannot be read")  # fmt: skip


@cache
def may_mount() -> bool:
    """Give this process mounts of its own, which end with it, and say whether that was allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        return bool(libc.unshare(NEW_MOUNTS) == 0 and libc.mount(b"none", b"/", None, PRIVATE, None) == 0)
    except AttributeError:
        return False  # not Linux


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[None]:
    """Mount an empty disk of this size at a folder, in memory."""
    folder.mkdir(parents=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={mebibytes}m".encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    try:
        yield
    finally:
        libc.umount2(os.fsencode(folder), DETACH)


def full_disk(trial: Trial) -> None:
    """F5: the disk is full from a random moment on: a real small disk where mounting is allowed, else a limit."""
    setting = trial.setting(tracker=trial.chance.choice(["none", "tensorboard"]))
    reference = trial.reference(setting)
    kind = trial.chance.choice(["disk", "disk", "disk", "limit", "refused", "summary"] if may_mount() else ["limit"])
    moment = trial.moment(reference, trial.chance.choice(["/checkpoints/", "", "generate"]), after="record.json")
    trial.say(kind)
    if kind == "limit":
        strike = Strike("limit", moment, "", str(int(10 ** trial.chance.uniform(2, 5.3))))
        check_failed(trial, reference, trial.train(setting, strike))
        trial.go_on(setting, reference)
    elif kind == "summary":
        full_disk_at_summary(trial)
    elif kind == "refused":
        with small_disk(trial.outputs, 3):
            ended = trial.train(setting)
            expect(ended.code == 2, DISHONEST, f"a disk of 3 MiB: ended with {ended.code}: {ended.errors[-400:]}")
            expect("free" in ended.errors, DISHONEST, f"the message does not speak of the disk: {ended.errors[-400:]}")
            expect(checks.the_run(trial.outputs) is None, DISHONEST, "a run folder was made")
    else:
        with small_disk(trial.outputs, 64):
            strike = Strike("fill", moment, "", f"{int(10 ** trial.chance.uniform(0, 5))} {trial.outputs}")
            check_failed(trial, reference, trial.train(setting, strike))
            (trial.outputs / ".ballast").unlink()
            trial.go_on(setting, reference)


def full_disk_at_summary(trial: Trial) -> None:
    """Let the disk be full when the summary is written: the old one stays whole."""
    with small_disk(trial.outputs, 64):
        copy_runs(trial, 2)
        before = trial.summarize()
        expect(before.code == 0, DISHONEST, before.errors)
        old = checks.contents(trial.outputs / "summary")
        ended = trial.summarize(Strike("fill", 1, "/summary", f"{trial.chance.randrange(9000)} {trial.outputs}"))
        check_message(ended)
        checks.check_whole(trial.outputs)
        names = [name for name in old if checks.contents(trial.outputs / "summary").get(name) is None]
        expect(not names, LOST, f"{names} of the old summary are gone")
        (trial.outputs / ".ballast").unlink()
        expect(trial.summarize().code == 0, LOST, "no summary after room was made")
        expect(not checks.leftovers(trial.outputs), TORN, f"left over: {checks.leftovers(trial.outputs)}")


def check_message(ended: Ended) -> None:
    """Check that a process failed with a clear word about the disk, and without a traceback."""
    if ended.code == 0:
        return
    expect(ended.code in (1, 2), DISHONEST, f"ended with {ended.code}: {ended.errors[-600:]}")
    expect("Traceback" not in ended.errors, DISHONEST, f"a traceback: {ended.errors[-1500:]}")
    said = ended.errors.rpartition("error: ")[2]
    expect(any(word in said for word in DISK_WORDS), DISHONEST, f"says nothing of the disk: {said[-400:]}")


def check_failed(trial: Trial, reference: Reference, ended: Ended) -> None:
    """Check what holds after a run met a disk that fails: it came through, or says that it did not and why."""
    check_message(ended)
    run = trial.check_stopped(reference)
    if ended.code == 0:
        trial.check_same(reference)
    elif run is not None:
        status = checks.read_record(run).status
        expect(status != "done", DISHONEST, f"exit code {ended.code}, status {status}")


def lost_folder(trial: Trial) -> None:
    """F6: outputs are read-only at the start or from a random moment on, over quota, or deleted in mid-run."""
    setting = trial.setting()
    reference = trial.reference(setting)
    moment = trial.moment(reference, after="record.json")
    kind = ("read-only", "forbid", "outputs", "run", "checkpoints", "quota", "run files")[trial.number % 7]
    trial.say(kind)
    if kind == "read-only":
        read_only_at_start(trial, reference)
    elif kind == "forbid":
        ended = trial.train(setting, Strike("forbid", moment, "", str(trial.outputs)))
        for path, _, _ in os.walk(trial.outputs):
            Path(path).chmod(0o755)
        check_failed(trial, reference, ended)
    elif kind == "quota":
        ended = trial.train(setting, Strike("OSError", moment, "^(open|mkdir|save|fsync) ", "EDQUOT", repeat=True))
        check_failed(trial, reference, ended)
    else:
        ended = trial.train(setting, Strike("delete", moment, "", str(victim(trial, reference, kind))))
        check_message(ended)
        checks.check_whole(trial.outputs)
    trial.go_on(setting, reference)


def victim(trial: Trial, reference: Reference, kind: str) -> Path:
    """Return the folder that is deleted."""
    run = trial.outputs / reference.run.path.relative_to(reference.place / "outputs")
    below = {"checkpoints": run / "checkpoints", "run": run, "run files": run / "adapter"}
    return below.get(kind, trial.outputs)


def read_only_at_start(trial: Trial, reference: Reference) -> None:
    """Refuse a read-only folder at once, with nothing changed."""
    setting = trial.setting()
    trial.outputs.mkdir()
    (trial.outputs / "kept.txt").write_text("mine", encoding="utf-8")
    trial.outputs.chmod(0o555)
    ended = trial.train(setting, Strike("obey", 0))
    trial.outputs.chmod(0o755)
    expect(ended.code == 2, DISHONEST, f"read-only outputs: ended with {ended.code}: {ended.errors[-400:]}")
    check_message(ended)
    expect(list(checks.contents(trial.outputs)) == ["kept.txt"], DISHONEST, "something was written all the same")


def moved_outputs(trial: Trial) -> None:
    """F15: outputs are moved to another place between interruption and the next start, or copied without times."""
    setting = trial.setting()
    reference = trial.reference(setting)
    trial.train(setting, Strike("signal", trial.moment(reference, after="batch"), "", "SIGKILL"))
    trial.check_stopped(reference)
    elsewhere = trial.folder / "another" / "place"
    elsewhere.mkdir(parents=True)
    if trial.chance.random() < 0.5:
        trial.outputs.rename(elsewhere / "outputs")
    else:
        shutil.copytree(trial.outputs, elsewhere / "outputs", copy_function=shutil.copyfile)
        shutil.rmtree(trial.outputs)
    trial.go_on(setting, reference, elsewhere)
