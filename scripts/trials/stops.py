"""Processes that are killed at a step, while writing, generating or summarizing, or stopped by a signal."""

import shutil
import signal
from pathlib import Path

from scripts.trials import checks
from scripts.trials.checks import DISHONEST, LOST, expect
from scripts.trials.inject import Strike
from scripts.trials.reference import Reference
from scripts.trials.settings import configuration
from scripts.trials.trial import Trial
from scripts.trials.warm import Ended

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2", "SIGINT SIGINT")


def kill_at_step(trial: Trial) -> None:
    """F1: kill -9 at a random step, in a random write or at a random moment, up to three times."""
    setting = trial.setting()
    reference = trial.reference(setting)
    # Most training events are checkpoint writes; steps get equal weight.
    event = trial.chance.choice(["step ", "update ", ""])
    strike = kill(trial, trial.moment(reference, event, after="batch ", before="update "))
    for _ in range(trial.chance.choice([1, 1, 2, 3])):
        if trial.chance.random() < 0.4:
            ended = trial.train(setting, kill_after=trial.chance.uniform(0.1, 1.0) * reference.seconds)
        else:
            ended = trial.train(setting, strike)
        trial.check_stopped(reference)
        strike = kill_later(trial, reference, ended)
    trial.go_on(setting, reference)


def kill(trial: Trial, moment: int, event: str = "") -> Strike:
    """Return a kill before an event, or within a later write."""
    if trial.chance.random() < 0.6:
        return Strike("signal", moment, event, "SIGKILL")
    return Strike("tear", moment, event, str(int(10 ** trial.chance.uniform(0, 5.3))))


def kill_later(trial: Trial, reference: Reference, last: Ended) -> Strike:
    """Return a kill at a random event that a run resumed after `last` may still reach."""
    return kill(trial, trial.chance.randrange(1, max(2, len(reference.journal) - len(last.journal))))


def kill_in_checkpoint(trial: Trial) -> None:
    """F2: kill -9 before a random write, rename or removal of a checkpoint, or in the middle of a write."""
    setting = trial.setting()
    reference = trial.reference(setting)
    count = trial.chance.randint(1, len(reference.moments("/checkpoints/")))
    for _ in range(trial.chance.choice([1, 1, 2])):
        ended = trial.train(setting, kill(trial, count, "/checkpoints/"))
        trial.check_kept(ended, trial.check_stopped(reference))
        count = trial.chance.randint(1, 60)
    trial.go_on(setting, reference)


def kill_in_evaluation(trial: Trial) -> None:
    """F3: kill -9 while predictions are generated and scored, between or within writes."""
    setting = trial.setting()
    reference = trial.reference(setting)
    strike = kill(trial, trial.moment(reference, after="generate "))
    for _ in range(trial.chance.choice([1, 2, 3])):
        if trial.chance.random() < 0.3:
            number = trial.chance.choice(reference.moments("open ", after="generate "))
            strike = Strike("tear", number, "", str(trial.chance.randrange(5000)))
        ended = trial.train(setting, strike)
        trial.check_stopped(reference)
        strike = kill_later(trial, reference, ended)
    trial.go_on(setting, reference)


def kill_in_summary(trial: Trial) -> None:
    """F4: kill -9 while the summary is written, with or without an older one."""
    copy_runs(trial, 2)
    undisturbed = trial.summarize()
    expect(undisturbed.code == 0, DISHONEST, undisturbed.errors)
    summary = trial.outputs / "summary"
    old = checks.contents(summary)
    expect(old, LOST, "no summary was written")
    copy_runs(trial, 3)  # a new row
    moments = [n for n, event in enumerate(undisturbed.journal, 1) if "/summary" in event.path]
    if trial.chance.random() < 0.3:
        strike = Strike("tear", 1, "/summary", str(trial.chance.randrange(60_000)))
    else:
        strike = Strike("signal", trial.chance.choice(moments), "", "SIGKILL")
    ended = trial.summarize(strike)
    expect(ended.code < 0, DISHONEST, f"ended with {ended.code} instead of by the kill")
    checks.check_whole(trial.outputs)
    torn = checks.contents(summary)
    again = trial.summarize()
    expect(again.code == 0, LOST, again.errors)
    new = checks.contents(summary)
    for name, content in torn.items():
        if not Path(name).name.startswith(".writing-"):
            expect(content in (old.get(name), new.get(name)), checks.TORN, f"{name} is neither the old nor the new one")
    expect(not checks.leftovers(trial.outputs), checks.TORN, f"left over: {checks.leftovers(trial.outputs)}")
    expect(new["results_summary.csv"].count(b"\nlora") + new["results_summary.csv"].count(b"\nqlora")
           + new["results_summary.csv"].count(b"\nfull") == 3, LOST, "the summary lacks a row")  # fmt: skip


def copy_runs(trial: Trial, number: int) -> list[str]:
    """Copy finished runs, shared by all trials, into the trial's outputs; return their names."""
    names = []
    for index in range(number):
        run = trial.reference(configuration(trial.seed, index)).run
        names.append(run.path.name)
        shutil.copytree(run.path, trial.outputs / "demo" / run.path.name, dirs_exist_ok=True)
    return names


def stop_by_signal(trial: Trial) -> None:
    """F13: a run gets a stop signal; it writes a checkpoint, says so, and resumes when restarted."""
    setting = trial.setting()
    reference = trial.reference(setting)
    names = SIGNALS[trial.number % len(SIGNALS)]
    number = signal.Signals[names.split()[0]]
    # Within a step, where no checkpoint is due, or anywhere, sometimes before training.
    event, after = trial.chance.choice([("step ", ""), ("update ", ""), ("", "batch "), ("", "/demo")])
    moment = trial.moment(reference, event, after=after)
    strikes = [Strike("signal", moment, "", names.split()[0])]
    if " " in names:
        strikes.append(Strike("signal", moment + trial.chance.randrange(1, 30), "", names.split()[1]))
    ended = trial.train(setting, *strikes)
    check_asked(trial, reference, ended.code, number, twice=" " in names)
    trial.go_on(setting, reference)


def check_asked(trial: Trial, reference: Reference, code: int, number: int, *, twice: bool) -> None:
    """Check the end of a run after a stop signal: finished anyway, or interrupted with a checkpoint."""
    run = trial.check_stopped(reference)
    if run is None:  # before the run begins, a signal has its default effect
        expect(code in (128 + number, -number), DISHONEST, f"exit code {code}, and no run folder")
        return
    record = checks.read_record(run)
    if code == 0:
        expect(record.status == "done", DISHONEST, f"exit code 0, status {record.status}")
        return
    expect(code == 128 + number, DISHONEST, f"exit code {code} instead of {128 + number}")
    expect(record.status == "interrupted", DISHONEST, f"status {record.status} instead of interrupted")
    taken = len([row for row in run.read_metrics() if "loss" in row])
    newest = max(checks.whole_checkpoints(run), default=0)
    expect(twice or newest >= taken, LOST, f"{taken} steps were taken, the newest checkpoint is of step {newest}")
