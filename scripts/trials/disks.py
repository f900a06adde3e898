"""Full disks, unwritable folders, disappearing folders."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from scripts.trials import checks
from scripts.trials.checks import DISHONEST, LOST, TORN, expect
from scripts.trials.inject import Strike
from scripts.trials.reference import Reference
from scripts.trials.settings import Setting
from scripts.trials.stops import copy_runs
from scripts.trials.trial import Trial
from scripts.trials.warm import Ended

SMALL_DISK = "64m"
# Operations for which the kernel may need another disk block.
ALLOCATING = "^(open|save|fsync|rename|mkdir) .*"
PLACES = {
    "checkpoint": "/checkpoints/",
    "answers": "(predictions|answering|eval_results)[.]json",
    "record": "record[.]json",
    "evaluation": "evaluation[.]json",
    "anything": "",
}
FULL_WAYS = (*PLACES, "summary", "one checkpoint", "one record", "limit", "TensorBoard", "one anything", "too small")
READ_ONLY_WAYS = ("folder", "parent", "mounted", "a file", "forbid", "delete", "forbid", "delete", "quota", "delete")


@contextlib.contextmanager
def small_disk(folder: Path, size: str = SMALL_DISK) -> Iterator[bool]:
    """Mount a small disk at a folder while the block runs; yields False if mounting is not allowed.

    Its final content is left in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield False
        return
    try:
        yield True
    finally:
        (folder / ".ballast").unlink(missing_ok=True)
        kept = folder.with_name(f"{folder.name}.kept")
        shutil.copytree(folder, kept)
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        shutil.rmtree(kept)


def fill_up(trial: Trial) -> None:
    """F5: the disk is full from some moment on, or for a moment; files may grow no larger than some size."""
    way = FULL_WAYS[trial.number % len(FULL_WAYS)]
    trial.say(way)
    if way == "summary":
        fill_up_in_summary(trial)
        return
    setting = trial.setting(tracker="tensorboard" if way == "TensorBoard" else "none")
    reference = trial.reference(setting)
    if way == "limit":
        size = str(int(10 ** trial.chance.uniform(2, 5.5)))
        fail_and_go_on(trial, setting, reference, Strike("limit", trial.moment(reference), "", size))
    elif way == "too small":
        refuse_small_disk(trial, setting)
    elif way == "TensorBoard":
        ended = trial.train(setting, Strike("OSError", 1, "(open|mkdir) .*/tensorboard", "ENOSPC"))
        expect(ended.code == 0, LOST, f"TensorBoard's full disk ended the run with {ended.code}: {ended.errors[-600:]}")
        trial.check_same(reference)
    elif way.startswith("one "):
        event = ALLOCATING + PLACES[way.removeprefix("one ")]
        fail_and_go_on(trial, setting, reference, Strike("OSError", some(trial, reference, event), event, "ENOSPC"))
    else:
        with small_disk(trial.outputs) as mounted:
            count = some(trial, reference, PLACES[way])
            left = trial.chance.choice([0, 0, 512, trial.chance.randrange(200_000)])
            fill = Strike("fill", count, PLACES[way], f"{left} {trial.outputs}")
            error = Strike("OSError", count, PLACES[way], "ENOSPC", repeat=True)
            fail_and_go_on(trial, setting, reference, fill if mounted else error)


def some(trial: Trial, reference: Reference, event: str) -> int:
    """Return the number of a random event of a kind in the undisturbed run."""
    matching = sum(bool(re.search(event, each.text)) for each in reference.journal)
    return trial.chance.randint(1, matching)


def refuse_small_disk(trial: Trial, setting: Setting) -> None:
    """A disk that is too small for the run is refused before anything is written."""
    with small_disk(trial.outputs, trial.chance.choice(["3m", "8m"])) as mounted:
        if mounted:
            ended = trial.train(setting)
            expect(ended.code == 2, DISHONEST, f"a disk too small: exit code {ended.code}: {ended.errors[-600:]}")
            told = re.search("are free|No space left", ended.errors)
            expect(told, DISHONEST, f"no word of the disk: {ended.errors[-600:]}")
            expect(checks.the_run(trial.outputs) is None, DISHONEST, "refused, and yet a run was begun")


def fail_and_go_on(trial: Trial, setting: Setting, reference: Reference, strike: Strike) -> None:
    """Run with a fault that ends the run, check how it ended, then repair the disk and resume."""
    ended = trial.train(setting, strike)
    (trial.outputs / ".ballast").unlink(missing_ok=True)
    run = trial.check_stopped(reference)
    check_failure(trial, ended, "full|No space left|too large|quota")
    trial.check_kept(ended, run)
    trial.go_on(setting, reference)


def check_failure(trial: Trial, ended: Ended, words: str) -> None:
    """Check that a run which could not write either did not need to, or failed cleanly with the reason."""
    struck = any(event.kind == "strike" for event in ended.journal)
    run = checks.the_run(trial.outputs)
    status = "none" if run is None else checks.read_record(run).status
    if ended.code == 0:
        expect(status == "done", DISHONEST, f"exit code 0, and status {status}")
        return
    expect(struck, DISHONEST, f"nothing was injected, and the exit code is {ended.code}: {ended.errors[-600:]}")
    expect(ended.code in (1, 2), DISHONEST, f"exit code {ended.code}: {ended.errors[-600:]}")
    last = ended.errors.strip().rpartition("error: ")[2]
    expect(re.search(words, last), DISHONEST, f"the message does not say what happened: {ended.errors[-800:]}")
    expect("Traceback" not in ended.errors, DISHONEST, f"a traceback on the terminal: {ended.errors[:1500]}")
    expect(status != "done", DISHONEST, f"exit code {ended.code}, and status done: {ended.errors[-600:]}")
    untold = status in ("running", "trained", "evaluated") and "could not be written" not in ended.errors
    expect(not untold or ended.code == 2, DISHONEST, f"status {status} after a failure: {ended.errors[-600:]}")


def fill_up_in_summary(trial: Trial) -> None:
    """The disk is full while the summary is written: the old one stays whole, and the next one is complete."""
    with small_disk(trial.outputs) as mounted:
        copy_runs(trial, 2)
        undisturbed = trial.summarize()
        expect(undisturbed.code == 0, DISHONEST, undisturbed.errors)
        old = checks.contents(trial.outputs / "summary")
        copy_runs(trial, 3)
        count = trial.chance.randint(1, sum("/summary/" in event.path for event in undisturbed.journal))
        left = trial.chance.choice([0, 512, trial.chance.randrange(60_000)])
        fill = Strike("fill", count, "/summary/", f"{left} {trial.outputs}")
        error = Strike("OSError", count, "/summary/", "ENOSPC", repeat=True)
        ended = trial.summarize(fill if mounted else error)
        (trial.outputs / ".ballast").unlink(missing_ok=True)
        torn = checks.contents(trial.outputs / "summary")
        if ended.code != 0:
            expect("error: " in ended.errors and "Traceback" not in ended.errors, DISHONEST, ended.errors[-800:])
        again = trial.summarize()
        expect(again.code == 0, LOST, again.errors)
        new = checks.contents(trial.outputs / "summary")
        for name, content in torn.items():
            expect(content in (old.get(name), new.get(name)), TORN, f"{name} is neither the old nor the new one")
        expect(ended.code != 0 or torn == new, DISHONEST, "exit code 0, and the summary is not the new one")
        expect(not checks.leftovers(trial.outputs), TORN, f"left over: {checks.leftovers(trial.outputs)}")


def take_away(trial: Trial) -> None:
    """F6: outputs cannot be written at the start, or from some moment on, or go away."""
    way = READ_ONLY_WAYS[trial.number % len(READ_ONLY_WAYS)]
    setting = trial.setting()
    reference = trial.reference(setting)
    trial.say(way)
    if way in ("forbid", "delete", "quota"):
        take_away_in_run(trial, setting, reference, way)
    elif way == "mounted":
        with small_disk(trial.outputs) as mounted:
            refuse_at_start(trial, setting, reference, way if mounted else "folder")
    else:
        refuse_at_start(trial, setting, reference, way)


def refuse_at_start(trial: Trial, setting: Setting, reference: Reference, way: str) -> None:
    """Outputs cannot be written when the run starts: exit code 2, and nothing changes."""
    begun = way != "a file" and trial.chance.random() < 0.5
    if begun:
        trial.train(setting, Strike("signal", trial.moment(reference, after="batch "), "", "SIGKILL"))
    elif way == "a file":
        trial.outputs.write_text("")
    elif way != "parent":
        trial.outputs.mkdir(exist_ok=True)
    before = checks.contents(trial.folder)
    closed = trial.folder if way == "parent" and not begun else trial.outputs
    if way == "mounted":
        remount(trial.outputs, "ro")
    ended = trial.train(setting, *([] if way in ("a file", "mounted") else [Strike("forbid", 0, "", str(closed))]))
    if way == "mounted":
        remount(trial.outputs, "rw")
    give_back(trial.folder)
    expect(ended.code == 2, DISHONEST, f"exit code {ended.code} instead of 2: {ended.errors[-600:]}")
    expect("outputs" in ended.errors.rpartition("error: ")[2], DISHONEST, f"no word of it: {ended.errors[-600:]}")
    after = checks.contents(trial.folder)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    changed = {name for name in changed if not name.startswith("journals/")}
    expect(not changed, LOST, f"refused, and yet {sorted(changed)[:5]} changed")
    if way == "a file":
        trial.outputs.unlink()
    trial.go_on(setting, reference)


def remount(folder: Path, mode: str) -> None:
    """Remount a folder read-only (`ro`) or writable (`rw`)."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


def give_back(folder: Path) -> None:
    """Undo `actions.forbid_writing`."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def take_away_in_run(trial: Trial, setting: Setting, reference: Reference, way: str) -> None:
    """Outputs become unwritable or disappear during the run, which then fails."""
    run = trial.outputs / "demo" / reference.run.path.name
    if way == "quota":
        strike = Strike("OSError", some(trial, reference, ALLOCATING), ALLOCATING, "EDQUOT", repeat=True)
    else:
        moment = trial.moment(reference, after="record.json", before="record.json")
        places = [trial.outputs, run, run / "checkpoints", *([run / "record.json"] if way == "delete" else [])]
        strike = Strike(way, moment, "", str(trial.chance.choice(places)))
    ended = trial.train(setting, strike)
    give_back(trial.folder)
    if way != "delete":
        trial.check_stopped(reference)
        check_failure(trial, ended, "denied|cannot|quota|full")
        trial.go_on(setting, reference)
        return
    expect(ended.code in (0, 1, 2), DISHONEST, f"exit code {ended.code}: {ended.errors[-600:]}")
    found = checks.the_run(trial.outputs)
    done = found is not None and checks.read_record(found).status == "done"
    expect(done == (ended.code == 0), DISHONEST, f"exit code {ended.code}, done: {done}: {ended.errors[-600:]}")
    again = trial.train(setting)
    expect(again.code == 0, LOST, f"the same command again ended with {again.code}: {again.errors[-600:]}")
    trial.check_same(reference)
