"""Two machines that share a folder: a run that was paused or killed on one is taken over on the other."""

import os
import signal
import time
from collections.abc import Callable

from medqa_finetune.record.host import HOST_VARIABLE
from medqa_finetune.record.lease import SECONDS_VARIABLE
from scripts.trials import checks
from scripts.trials.checks import DISHONEST, LOST, expect
from scripts.trials.inject import Strike
from scripts.trials.trial import Trial, process_of
from scripts.trials.warm import TRAIN, Child, command_body

SECONDS = 2
WAYS = ("paused, goes on later", "killed", "paused, goes on meanwhile")
# Ten minutes and a day.
CLOCKS = ("600", "-600", "86400")


def on_machine(name: str, body: Callable[[], object]) -> Callable[[], object]:
    """Return `body` on a machine of this name, whose leases expire soon."""

    def run() -> object:
        os.environ.update({HOST_VARIABLE: name, SECONDS_VARIABLE: str(SECONDS)})
        return body()

    return run


def take_over(trial: Trial) -> None:
    """F27: a run is paused or killed on one machine, and given again on another, whose clock is off."""
    way = WAYS[trial.number % len(WAYS)]
    setting = trial.setting()
    reference = trial.reference(setting)
    trial.say(way)
    words = command_body(TRAIN, setting.arguments(trial.model))
    if way == "killed":
        strike = Strike("signal", trial.moment(reference, after="batch "), "", "SIGKILL")
    else:
        # While it computes: paused between the look at its lease and a write, it would still make that one write.
        event = trial.chance.choice(["step ", "update ", "generate "])
        strike = Strike("signal", trial.chance.randint(1, len(reference.moments(event))), f"^{event}", "SIGSTOP")
    with process_of(trial.child(on_machine("node1", words), [strike])) as first:
        wait_until_struck(first)
        trial.check_stopped(reference)
        clock = Strike("clock", 0, "", trial.chance.choice(CLOCKS))
        before = trial.standing(checks.the_run(trial.outputs))
        began = time.monotonic()
        second = trial.child(on_machine("node2", words), [clock])
        if way.endswith("meanwhile"):
            wait_for(lambda: "taken over" in second.said, second)
            time.sleep(trial.chance.uniform(0, reference.seconds))
            first.send(signal.SIGCONT)
        ended = trial.ended(second)
        seconds = time.monotonic() - began
        expect(ended.code == 0, LOST, f"on the other machine it ended with {ended.code}: {ended.errors[-900:]}")
        expect("taken over from process" in ended.errors, DISHONEST, f"does not say it: {ended.errors[-900:]}")
        for line in ended.errors.splitlines():
            if "waiting up to" in line or "taken over from" in line:
                trial.say(f"node2: {line[:8]} {line[line.rfind(' is ') :]}")
        trial.say(f"node2, its clock {clock.argument} s off, was done after {seconds:.1f} s")
        expect(seconds > SECONDS, DISHONEST, f"waited {seconds:.1f} s, for a lease of {SECONDS} s")
        run = trial.check_same(reference)
        trial.check_resumed(setting, before, ended, run)
        if way == "killed":
            return
        written = checks.contents(run.path)
        first.send(signal.SIGCONT)
        lost = trial.ended(first)
        expect(lost.code == 1, DISHONEST, f"having lost its run, it ended with {lost.code}: {lost.errors[-900:]}")
        expect("taken this run over" in lost.errors, DISHONEST, f"does not say it: {lost.errors[-900:]}")
        changed = [name for name, content in checks.contents(run.path).items() if written.get(name) != content]
        expect(not changed, LOST, f"{changed} were changed by a process that had lost its run")
    trial.check_same(reference)


def wait_until_struck(child: Child) -> None:
    wait_for(lambda: any(event.kind == "strike" for event in child.events), child)


def wait_for(is_so: Callable[[], bool], child: Child, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_so():
        if child.wait(0.05):
            return
    expect(is_so(), DISHONEST, f"waited {seconds} s in vain: {child.said[-900:]}")
