"""Damaged trained weights of a finished run: reproduced exactly for its second evaluation."""

from medqa_finetune.record.run_dir import RunDir
from scripts.trials import checks
from scripts.trials.again import SECONDS, Second, copy_first, first_setting, second
from scripts.trials.checks import DIFFERENT, LOST, TORN, expect
from scripts.trials.files import drop, flip
from scripts.trials.inject import Strike
from scripts.trials.stops import kill
from scripts.trials.trial import Trial


def damage_weights(trial: Trial) -> None:
    """F26: trained weights of a finished run are damaged; its second evaluation retrains them, and is killed."""
    kinds = [kind for kind in SECONDS if kind != "another metric"]  # which needs no weights
    asked = second(trial, first_setting(trial), kinds[trial.number % len(kinds)])
    before = copy_first(trial, asked.first)
    run = checks.the_run(trial.outputs)
    assert run is not None
    files = sorted(run.adapter_path.iterdir())
    weights = [path for path in files if path.suffix == ".safetensors"]
    way, path = trial.chance.choice([(flip, weights[0]), (drop, weights[0]), (drop, trial.chance.choice(files))])
    trial.say(f"{way.__name__} {path.name}")
    way(trial, path)
    for _ in range(trial.chance.choice([0, 1, 1, 2])):
        trial.ended(asked.start(stop(trial, asked)))
        checks.check_whole(trial.outputs)
        check_first(asked, run, before)
    ended = trial.ended(asked.start())
    expect(ended.code == 0, LOST, f"the same command again ended with {ended.code}: {ended.errors[-600:]}")
    check_first(asked, run, before)
    check_remade(trial, asked, run)
    after = checks.contents(run.path)
    for again in (trial.ended(asked.start()), trial.train(asked.setting)):
        expect(again.code == 0 and not again.count("generate"), LOST, f"done, and then {again.errors[-300:]}")
    expect(checks.contents(run.path) == after, LOST, "done, and the next start changed something")


def stop(trial: Trial, asked: Second) -> Strike:
    """Return a kill at a random moment, usually before the weights exist."""
    moments = len(asked.reference.journal) + len(asked.first.moments(after="batch ")) // 4
    moment = trial.chance.randint(1, moments)
    return kill(trial, moment) if trial.chance.random() < 0.7 else Strike("signal", moment, "", "SIGTERM")


def check_first(asked: Second, run: RunDir, before: dict[str, bytes]) -> None:
    """Check that the first evaluation is unchanged."""
    now = checks.contents(run.path)
    changed = [name for name, content in before.items() if checks.is_of_one(name) and now.get(name) != content]
    expect(not changed, LOST, f"{changed} changed")


def check_remade(trial: Trial, asked: Second, run: RunDir) -> None:
    """Check that the run, its weights and both evaluations equal the undamaged ones."""
    checks.check_whole(trial.outputs)
    found = checks.differences(asked.reference.results, checks.results(run))
    expect(not found, DIFFERENT, "; ".join(found[:6]))
    status = checks.read_record(run).status
    expect(status == "done", LOST, f"status {status} instead of done")
    left = checks.leftovers(trial.outputs)
    expect(not left, TORN, f"left over: {left[:5]}")
