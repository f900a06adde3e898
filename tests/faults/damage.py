"""Files that are damaged between two starts: checkpoints, weights, records."""

import csv
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from medqa_finetune.record.run_dir import RunDir
from tests.faults import checks
from tests.faults.checks import DIFFERENT, DISHONEST, LOST, expect
from tests.faults.inject import Strike
from tests.faults.settings import configuration
from tests.faults.stops import copy_runs
from tests.faults.trial import Trial

Damage = Callable[[Path, random.Random], None]


def truncate(path: Path, chance: random.Random) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[: chance.randrange(max(1, path.stat().st_size))])


def flip(path: Path, chance: random.Random) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def zero_tail(path: Path, chance: random.Random) -> None:
    """Let the end of a file be zeros, as a power cut leaves it."""
    content = path.read_bytes()
    whole = chance.randrange(len(content))
    path.write_bytes(content[:whole] + bytes(len(content) - whole))
    if path.read_bytes() == content:
        path.write_bytes(content[:-1] + b"\xff")


def drop(path: Path, chance: random.Random) -> None:
    """Remove a file."""
    path.unlink()


def reshape(path: Path, chance: random.Random) -> None:
    """Let the first matrix of a safetensors file be turned round: the same bytes, other shapes."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    name = next(name for name, part in header.items() if len(set(part.get("shape", ()))) > 1)
    header[name]["shape"].reverse()
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


FILE_DAMAGES: dict[str, Damage] = {"truncate": truncate, "flip": flip, "zero": zero_tail, "drop": drop}
KINDS = (*FILE_DAMAGES, "shapes", "foreign weights", "foreign checkpoint", "empty", "renamed", "all", "weights", "hopeless")


def damaged_checkpoint(trial: Trial) -> None:
    """F11: after a kill, one checkpoint or all of them are damaged, or one that is none is put beside them."""
    kind = KINDS[trial.number % len(KINDS)]
    setting = trial.setting(checkpoint_steps=trial.chance.choice([1, 2]))
    reference = trial.reference(setting)
    updates = len(reference.moments("update"))
    if kind in ("weights", "hopeless"):
        strike = Strike("signal", trial.moment(reference, after="generate"), "", "SIGKILL")
    else:
        strike = Strike("signal", trial.chance.randrange(updates // 2 + 2, updates + 1), "^update", "SIGKILL")
    trial.train(setting, strike)
    run = trial.check_stopped(reference)
    if run is None or not checks.whole_checkpoints(run) or checks.read_record(run).status == "done":
        expect(kind == "weights", DISHONEST, "no checkpoint to damage")
        return
    trial.say(f"{kind}: {damage(trial, run, kind)}")
    if kind == "hopeless":
        refuse_hopeless(trial, run)
        return
    trial.go_on(setting, reference)
    said = run.log_path.read_text(encoding="utf-8")
    expect("passed over" in said or kind in ("all", "weights", "flip") or not newest_is_hurt(trial), DISHONEST, said[-900:])


def newest_is_hurt(trial: Trial) -> bool:
    """Say whether the damage that was done must have shown."""
    return any("step-" in note and ": newest" in note for note in trial.notes)


def damage(trial: Trial, run: RunDir, kind: str) -> str:
    """Damage what a killed run left, and say what."""
    chance = trial.chance
    steps = checks.whole_checkpoints(run)
    newest = run.checkpoints_path / f"step-{steps[0]}"
    if kind in FILE_DAMAGES:
        path = chance.choice(sorted(path for path in newest.iterdir() if path.is_file()))
        FILE_DAMAGES[kind](path, chance)
        return f"{path.parent.name}/{path.name}: newest"
    if kind == "empty":
        (run.checkpoints_path / "step-9999").mkdir()
        return "step-9999: newest"
    if kind == "renamed":
        shutil.copytree(newest, newest.with_name("step-9998"))
        return "step-9998: newest"
    weights = next(newest.glob("*.safetensors"))
    other = other_checkpoint(trial)
    if kind == "shapes":
        reshape(weights, chance)
    elif kind == "foreign weights":
        shutil.copyfile(next(other.glob("*.safetensors")), weights)
    elif kind == "foreign checkpoint":
        shutil.rmtree(newest)
        shutil.copytree(other, newest)
    else:
        for step in steps if kind != "weights" else ():
            path = chance.choice(sorted((run.checkpoints_path / f"step-{step}").iterdir()))
            FILE_DAMAGES["flip"](path, chance)
        for path in run.adapter_path.glob("*.safetensors") if kind != "all" else ():
            chance.choice([truncate, flip, zero_tail, drop])(path, chance)
        return kind
    return f"{newest.name}: newest"


def other_checkpoint(trial: Trial) -> Path:
    """Return a whole checkpoint of another run, of the same method."""
    words = configuration(trial.seed, 0)
    for note in trial.notes:
        if note.split(" ")[0] in ("lora", "qlora", "full"):
            words = words.but(method=note.split(" ")[0], seed=12345)
    run = trial.reference(words).run
    return run.checkpoints_path / f"step-{checks.whole_checkpoints(run)[0]}"


def refuse_hopeless(trial: Trial, run: RunDir) -> None:
    """Check that weights which nothing can make again are refused, not used."""
    setting = trial.setting_again
    before = checks.contents(run.path)
    ended = trial.train(setting)
    if checks.read_record(run).files and run.adapter_path.is_dir():
        expect(ended.code == 2, DIFFERENT, f"damaged weights, no checkpoint: ended with {ended.code}")
        expect(checks.contents(run.path) == before, LOST, "something was changed all the same")
