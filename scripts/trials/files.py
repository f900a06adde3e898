"""Files that change between starts: damaged, swapped, with another age, in another place."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.numpy

from medqa_finetune.record.run_dir import RunDir
from scripts.trials import checks
from scripts.trials.actions import age
from scripts.trials.checks import DIFFERENT, DISHONEST, LOST, expect
from scripts.trials.inject import Strike
from scripts.trials.reference import Reference, Standing
from scripts.trials.settings import POOL, Setting, configuration
from scripts.trials.stops import copy_runs
from scripts.trials.trial import Trial

DAY = 86_400
ZONES = ("Asia/Shanghai", "America/Los_Angeles", "Pacific/Kiritimati", "UTC")
MADE = "/checkpoints/step-"
SCORES = ("rouge1", "rouge2", "rougeL", "bleu", "perplexity")
Damage = Callable[[Trial, Path], None]


def disturb_clocks(trial: Trial) -> None:
    """F10: the clock is a day off, jumps in the run, all files have one age or the reverse order, the zone changes."""
    setting = trial.setting()
    reference = trial.reference(setting)
    shift = trial.chance.choice([-DAY, DAY])
    jump = Strike("clock", trial.moment(reference, after="batch "), "", str(-2 * shift))
    same_age = Strike("age", 1, f"rename .*{MADE}", f"{-shift} {trial.outputs}", repeat=True)
    kill = Strike("signal", trial.moment(reference, after=MADE), "", trial.chance.choice(["SIGKILL", "SIGTERM"]))
    disturbances = trial.chance.choice([(jump,), (same_age,), (jump, same_age)])
    ended = trial.train(setting, *elsewhen(shift, ZONES[trial.number % 4]), *disturbances, kill)
    run = trial.check_stopped(reference)
    assert run is not None
    if ended.code not in (0, 128 + 15):
        trial.check_kept(ended, run)
    if trial.number % 2:
        age(f"{-shift} {trial.outputs}")
    else:
        reverse_ages(run)
    trial.go_on(setting, reference, *elsewhen(-shift, ZONES[(trial.number + 1) % 4]))
    kept, expected = checks.whole_checkpoints(run), checks.whole_checkpoints(reference.run)
    expect(kept == expected, LOST, f"the checkpoints of steps {kept} are kept, undisturbed {expected}")


def elsewhen(seconds: float, zone: str) -> list[Strike]:
    """Return strikes that shift the clock and set the time zone from the start of a process."""
    return [Strike("clock", 0, "", str(seconds)), Strike("zone", 0, "", zone)]


def reverse_ages(run: RunDir) -> None:
    """Reverse the modification times of checkpoints."""
    steps = checks.whole_checkpoints(run)
    for number, step in enumerate(steps):
        age(f"{(number - len(steps)) * 3600} {run.checkpoints_path / f'step-{step}'}")


def cut(trial: Trial, path: Path) -> None:
    os.truncate(path, trial.chance.choice([0, trial.chance.randrange(path.stat().st_size)]))


def flip(trial: Trial, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[trial.chance.randrange(len(content))] ^= 1 << trial.chance.randrange(8)
    path.write_bytes(content)


def blank_end(trial: Trial, path: Path) -> None:
    """Zero the last bytes of a file, as after a power cut."""
    content = path.read_bytes()
    kept = trial.chance.randrange(len(content.rstrip(b"\0")))
    path.write_bytes(content[:kept] + bytes(len(content) - kept))


def drop(trial: Trial, path: Path) -> None:
    path.unlink()


def reshape(trial: Trial, path: Path) -> None:
    """Change the shapes of the weights in a file."""
    weights = path.parent / ("adapter_model" if (path.parent / "adapter_config.json").exists() else "model")
    file = weights.with_suffix(".safetensors")
    tensors = {name: tensor[..., :-1].copy() for name, tensor in safetensors.numpy.load_file(file).items()}
    safetensors.numpy.save_file(tensors, file, {"format": "pt"})


def empty(trial: Trial, path: Path) -> None:
    """Remove everything in a checkpoint's folder."""
    shutil.rmtree(path.parent)
    path.parent.mkdir()


FILE_DAMAGES: dict[str, Damage] = {
    "truncated": cut, "a flipped bit": flip, "a blank end": blank_end, "a missing file": drop, "other shapes": reshape,
    "emptied": empty,
}  # fmt: skip
SWAPS = ("another run's weights", "another run's checkpoint", "step-9999, empty", "a copy under a wrong number")
WAYS = (*FILE_DAMAGES, *SWAPS, "the trained weights")


def damage_checkpoints(trial: Trial) -> None:
    """F11: checkpoints are damaged or swapped after an interruption: passed over, said so, never loaded."""
    way = WAYS[trial.number % len(WAYS)]
    index = trial.chance.randrange(POOL)
    setting, other = configuration(trial.seed, index), configuration(trial.seed, (index + 3) % POOL)
    trial.say(f"{way}: configuration {index}, {setting}")
    reference = trial.reference(setting)
    after, before = ("generate", "generate") if way == "the trained weights" else (MADE, "update")
    moment = trial.moment(reference, after=after, before=before) + (after == MADE)
    trial.train(setting, Strike("signal", moment, "", "SIGKILL"))
    run = trial.check_stopped(reference)
    assert run is not None
    standing = trial.standing(run)
    needs = {step: {step, best_step(run, step)} for step in standing.checkpoints}
    bad = damage(trial, way, run, trial.reference(other).run)
    trial.say(f"bad: {bad}, of {standing.checkpoints}")
    usable = [step for step in standing.checkpoints if not needs[step] & bad]
    trained = standing.trained and way != "the trained weights"
    go_on_from(trial, setting, reference, replace(standing, checkpoints=usable, trained=trained), bad)


def damage(trial: Trial, way: str, run: RunDir, other: RunDir) -> set[int]:
    """Damage a run's checkpoints, and return the steps of the bad ones."""
    steps = checks.whole_checkpoints(run)
    newest = run.checkpoints_path / f"step-{steps[0]}"
    if way in FILE_DAMAGES:
        chosen = trial.chance.choice([steps[:1], steps[:1], steps[-1:], steps])
        for step in chosen:
            files = sorted((run.checkpoints_path / f"step-{step}").iterdir())
            FILE_DAMAGES[way](trial, trial.chance.choice(files))
        return set(chosen)
    theirs = other.checkpoints_path / f"step-{checks.whole_checkpoints(other)[0]}"
    if way == "another run's weights":
        (name,) = (path.name for path in theirs.iterdir() if path.name.endswith("model.safetensors"))
        shutil.copyfile(theirs / name, newest / name)
        return {steps[0]}
    if way == "another run's checkpoint":
        step = trial.chance.choice([steps[0], steps[0] + 1])
        shutil.rmtree(run.checkpoints_path / f"step-{step}", ignore_errors=True)
        shutil.copytree(theirs, run.checkpoints_path / f"step-{step}")
        edit(run.checkpoints_path / f"step-{step}" / "manifest.json", step=step, best_step=0)
        return {step}
    if way == "step-9999, empty":
        (run.checkpoints_path / "step-9999").mkdir()
        return {9999}
    if way == "a copy under a wrong number":
        step = steps[0] + trial.chance.randint(1, 1000)
        shutil.copytree(newest, run.checkpoints_path / f"step-{step}")
        return {step}
    files = sorted(path for path in run.adapter_path.iterdir() if path.stat().st_size)
    trial.chance.choice([cut, flip, blank_end, drop])(trial, trial.chance.choice(files))
    return set()


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes), encoding="utf-8")


def best_step(run: RunDir, step: int) -> int:
    """Return the best step referred to by the checkpoint of a step; the step itself if there is none yet."""
    manifest = json.loads((run.checkpoints_path / f"step-{step}" / "manifest.json").read_bytes())
    return int(manifest["best_step"]) or step


def go_on_from(trial: Trial, setting: Setting, reference: Reference, standing: Standing, bad: set[int]) -> None:
    """Run the command again, and check that it resumed from the newest valid checkpoint and said why."""
    run = checks.the_run(trial.outputs)
    assert run is not None
    found = [int(path.name.removeprefix("step-")) for path in run.checkpoints_path.glob("step-*")]
    newest = max(standing.checkpoints, default=0)
    left = {step: checks.contents(run.checkpoints_path / f"step-{step}") for step in bad}
    ended = trial.train(setting)
    expect(ended.code == 0, LOST, f"the same command again ended with {ended.code}: {ended.errors[-600:]}")
    log = run.log_path.read_text(encoding="utf-8")
    for step in found:
        said = any(f"step-{step} is not used: step-" in line for line in log.splitlines())
        expect(said or standing.trained or step <= newest, DISHONEST, f"no word of step {step}: {ended.errors[-900:]}")
    for step, content in left.items():  # checkpoints that no later one replaced must still be there
        folder = run.checkpoints_path / f"step-{step}"
        if folder.is_dir() and checks.contents(folder) == content:
            shutil.rmtree(folder)
    made = sum(event.kind == "rename" and MADE in event.path for event in ended.journal)
    kept = checks.whole_checkpoints(run)
    expect(len(kept) >= min(2, made), LOST, f"of {made} new checkpoints, {kept} are kept next to the bad ones")
    trial.check_resumed(setting, standing, ended, trial.check_same(reference))


RECORD_DAMAGES = ("torn", "empty", "NaN", "a wrong type", "no mapping", "older", "no text", "a copy")
# Prefix of damages to an evaluation's record.
OF_AN_EVALUATION = "evaluation: "
EVALUATION_DAMAGES = tuple(OF_AN_EVALUATION + way for way in RECORD_DAMAGES if way not in ("a wrong type", "a copy"))


def damage_record(trial: Trial) -> None:
    """F12: an unreadable record gives a row with a reason and no figures; a run with one is refused."""
    # Every second trial damages an evaluation's record, so that a few trials cover both.
    ways = EVALUATION_DAMAGES if trial.number % 2 else RECORD_DAMAGES
    way = ways[trial.number // 2 % len(ways)]
    trial.say(way)
    names = copy_runs(trial, 3)
    index = trial.chance.randrange(3)
    run = RunDir(trial.outputs / "demo" / names[index])
    folder = checks.the_evaluation(run)
    assert folder is not None
    path = folder.record_path if way.startswith(OF_AN_EVALUATION) else run.record_path
    whole = path.read_bytes()
    if way == "a copy":
        shutil.copytree(run.path, run.path.with_name("copy of it"))
    else:
        path.write_bytes(damaged_record(trial, way, whole))
    ended = trial.summarize()
    expect(ended.code == 0, LOST, f"the summary ended with {ended.code}: {ended.errors[-800:]}")
    with (trial.outputs / "summary" / "results_summary.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if way == "a copy":
        expect(len(rows) == 4, LOST, f"{len(rows)} rows for 4 runs")
        doubles = [row for row in rows if row["name"].startswith(names[index])]
        expect(len(doubles) == 2 and all(row["rougeL"] for row in doubles), DIFFERENT, f"{doubles}")
        return
    expect(len(rows) == 3, LOST, f"{len(rows)} rows for 3 runs")
    for row in rows:
        figures = [row[name] for name in (*SCORES, "train_size", "n_test", "train_seconds", "peak_rss_gib")]
        # The row's name includes non-default evaluation settings.
        if row["name"].startswith(names[index]):
            expect(row["status"] == "unreadable" and row["reason"], DISHONEST, f"{row}")
            expect(not any(figures), DISHONEST, f"figures of a record that cannot be read: {figures}")
        else:
            expect(row["status"] == "done" and all(figures) and not row["reason"], LOST, f"{row}")
    setting = configuration(trial.seed, index)
    if path != run.record_path:
        evaluate_all_the_same(trial, setting, path)
    refuse_and_mend(trial, setting, run, path, whole)


def evaluate_all_the_same(trial: Trial, setting: Setting, damaged: Path) -> None:
    """A new evaluation of a run works although another's record is unreadable, and leaves that one unchanged."""
    before = damaged.read_bytes()
    ended = trial.train(setting.but(more=(*setting.more, "evaluate.max_samples=2")))
    expect(ended.code == 0 and not ended.count("update"), LOST, f"it ended with {ended.code}: {ended.errors[-600:]}")
    expect(damaged.read_bytes() == before, LOST, "the record that cannot be read was changed")


def refuse_and_mend(trial: Trial, setting: Setting, run: RunDir, path: Path, whole: bytes) -> None:
    """A run or evaluation with an unreadable record is not restarted; with the record restored, it is done."""
    for record, code in ((path.read_bytes(), 2), (whole, 0)):
        path.write_bytes(record)
        before = checks.contents(run.path)
        ended = trial.train(setting)
        expect(ended.code == code, DISHONEST, f"exit code {ended.code} instead of {code}: {ended.errors[-600:]}")
        expect(code == 0 or path.name in ended.errors, DISHONEST, f"no word of it: {ended.errors[-600:]}")
        expect(checks.contents(run.path) == before, LOST, f"exit code {code}, and the folder has changed")
        expect(ended.count("generate") == 0, LOST, "answered again")


def damaged_record(trial: Trial, way: str, whole: bytes) -> bytes:
    """Return the bytes of an unreadable record."""
    record, kind = json.loads(whole), way.removeprefix(OF_AN_EVALUATION)
    chance = trial.chance
    if kind == "torn":
        return whole[: chance.randrange(1, len(whole) - 2)]
    if kind == "NaN":
        scores = record["result" if way != kind else "evaluation"]["scores"]
        scores["rougeL"]["value"] = chance.choice([float("nan"), float("inf")])
    elif kind == "a wrong type":
        section, key, value = chance.choice([
            ("evaluation", "n", "6"), ("evaluation", "scores", []), ("train", "seconds", "long"),
            ("train", "steps", 2.5), ("environment", "versions", None), ("parameters", "total", "many"),
        ])  # fmt: skip
        record[section][key] = value
    elif kind == "older":
        record["schema_version"] = chance.choice([0, None])
    choices = {"empty": b"", "no mapping": b"[1, 2]", "no text": bytes(range(128, 200))}
    return choices.get(kind, json.dumps(record).encode())


def move_away(trial: Trial) -> None:
    """F15: outputs, or the whole folder with the model, are at another path when the run resumes."""
    setting = trial.setting()
    reference = trial.reference(setting)
    with_model = trial.number % 2 == 1
    here, there = trial.folder / "here", trial.folder / "不同 place" / "there"
    here.mkdir()
    model = None
    if with_model:
        shutil.copytree(trial.model, here / "model")
        model = trial.chance.choice([Path("model"), here / "model"])
    trial.train(
        setting, Strike("signal", trial.moment(reference, after="batch "), "", "SIGKILL"), cwd=here, model=model
    )
    trial.check_stopped(reference, here / "outputs")
    there.parent.mkdir()
    if trial.chance.random() < 0.5:
        here.rename(there)
    else:  # as to another machine
        shutil.copytree(here, there, copy_function=shutil.copyfile)
        shutil.rmtree(here)
    if model is not None:
        model = trial.chance.choice([Path("model"), there / "model"])
    trial.go_on(setting, reference, cwd=there, model=model)
    expect(not here.exists(), DISHONEST, "the old place was made again")
