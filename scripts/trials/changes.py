"""Changes between two starts of a run: settings, data, code, libraries, the model."""

import itertools
import json
import shutil
from pathlib import Path

from medqa_finetune.data.embedded import embedded_rows
from medqa_finetune.record.environment import installed_versions
from medqa_finetune.record.evaluation_dir import ANSWERING, PREDICTIONS
from medqa_finetune.record.files import write_text
from medqa_finetune.record.run_dir import RunDir, find_runs
from scripts.trials import checks
from scripts.trials.checks import DIFFERENT, DISHONEST, LOST, expect
from scripts.trials.inject import Strike
from scripts.trials.reference import TESTED, Reference
from scripts.trials.settings import Setting
from scripts.trials.trial import Trial
from scripts.trials.warm import ROOT, Ended

PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "bitsandbytes", "datasets")
WAYS = ("version", "defaults", "version", "corpus", "code", "a file of data", "the model")


def change_between(trial: Trial) -> None:
    """F16: an input of the result changes after a kill: refused, or a new run; the old run stays."""
    way = WAYS[trial.number % len(WAYS)]
    setting = trial.setting()
    if way in ("a file of data", "the model"):
        change_file(trial, setting, way)
        return
    strike, named = change(trial, way, setting)
    reference = trial.reference(setting)
    moment = trial.moment(reference, after="generate ")
    if way == "version":
        if trial.chance.random() < 0.5:
            answer_elsewhere(trial, setting, reference, strike, moment)
            return
        moment = trial.moment(reference, after="/checkpoints/step-", before="update ") + 1
    trial.train(setting, Strike("signal", moment, "", "SIGKILL"))
    run = trial.check_stopped(reference)
    assert run is not None
    before = checks.contents(run.path)
    if not checks.read_record(run).is_trained or way != "version":  # finished training is unaffected
        check_refused(trial.train(setting, strike), named)
    expect(checks.contents(run.path) == before, LOST, f"{way}: refused, and the folder has changed")
    trial.go_on(setting, reference)


def answer_elsewhere(trial: Trial, setting: Setting, reference: Reference, strike: Strike, moment: int) -> None:
    """A version changes during generation: earlier predictions are moved aside, and all are generated again."""
    trial.train(setting, Strike("signal", moment, "", "SIGKILL"))
    run = trial.check_stopped(reference)
    assert run is not None
    folder = checks.the_evaluation(run)
    assert folder is not None
    evaluation = checks.read_evaluation(run, folder)
    assert evaluation is not None
    before = said(folder.path)
    ended = trial.train(setting, strike)
    expect(ended.code == 0 and not ended.count("update"), LOST, f"{ended.code}: {ended.errors[-600:]}")
    done, begun = evaluation.status == "done", PREDICTIONS in before
    answered, wanted = ended.count("generate"), 0 if done else -(-TESTED // setting.answers)
    expect(answered == wanted, DIFFERENT, f"{answered} batches were answered in the new place instead of {wanted}")
    aside = [path for path in run.evaluations_path.iterdir() if ".old-" in path.name]
    if begun and not done:
        expect(len(aside) == 1 and said(aside[0]) == before, LOST, f"what was said before is not in {aside}")
        shutil.rmtree(aside[0])
        package, _, version = strike.argument.partition(" ")
        place = getattr(checks.read_evaluation(run, folder), "environment", None)
        expect(place is not None and place.versions[package] == version, DISHONEST, f"answered in {place}")
    else:
        expect(not aside, DISHONEST, f"moved aside: {aside}")
    trial.check_same(reference)
    after = checks.contents(run.path)
    again = trial.train(setting)
    expect(again.code == 0 and checks.contents(run.path) == after, LOST, f"done, and then: {again.errors[-600:]}")


def said(folder: Path) -> dict[str, bytes]:
    """Return the files of an evaluation that grow during generation."""
    return {name: (folder / name).read_bytes() for name in (PREDICTIONS, ANSWERING) if (folder / name).is_file()}


def change(trial: Trial, way: str, setting: Setting) -> tuple[Strike, str]:
    """Return the strike that makes the change, and the text that the refusal must contain."""
    if way == "defaults":
        conf = trial.folder / "conf"
        shutil.copytree(ROOT / "conf", conf)
        path = conf / "train" / "default.yaml"
        with path.open("a", encoding="utf-8") as file:
            file.write("weight_decay: 0.125\n")
        return Strike("defaults", 0, "", str(conf)), "train.weight_decay: 0.0 -> 0.125"
    if way == "version":
        package = trial.chance.choice(PACKAGES)
        return Strike("version", 0, "", f"{package} 0.0.1"), f"{package} {installed_versions()[package]} -> 0.0.1"
    return Strike(way, 0), {"corpus": "corpus.sha256: ", "code": "results_version: "}[way]


def check_refused(ended: Ended, named: str) -> None:
    """Check that a run was refused before it did anything, and that the refusal names the difference."""
    expect(ended.code == 2, DISHONEST, f"exit code {ended.code} instead of 2: {ended.errors[-600:]}")
    expect(named in ended.errors, DISHONEST, f"{named!r} is not in the message: {ended.errors[-600:]}")
    expect("Traceback" not in ended.errors, DISHONEST, f"a traceback: {ended.errors[-900:]}")
    expect(not ended.count("step") and not ended.count("generate"), LOST, "refused, and yet it worked")


def change_file(trial: Trial, setting: Setting, way: str) -> None:
    """A file named on the command line changes, which makes a new run in addition to the old one."""
    model, more = trial.folder / "model", setting.more
    shutil.copytree(trial.model, model)
    changing = model / "generation_config.json"
    if way == "a file of data":
        changing = write_pairs(trial.folder)
        setting = setting.but(more=(*more, "corpus=jsonl", f"corpus.path={write_pairs(trial.shared / 'data')}"))
    reference = trial.reference(setting)
    if way == "a file of data":
        setting = setting.but(more=(*more, "corpus=jsonl", f"corpus.path={changing.name}"))
    kill = Strike("signal", trial.moment(reference, after="/checkpoints/step-", before="generate") + 1, "", "SIGKILL")
    trial.train(setting, kill, model=model)
    run = trial.check_stopped(reference)
    assert run is not None
    before, content = checks.contents(run.path), changing.read_bytes()
    changing.write_bytes(content.replace(b"\n", b" \n", 1))
    other = go_another_way(trial, setting, model, run)
    expect(checks.contents(run.path) == before, LOST, f"{way} has changed, and the folder has")
    changing.write_bytes(content)
    shutil.rmtree(other.path)
    trial.go_on(setting, reference, model=model)


def go_another_way(trial: Trial, setting: Setting, model: Path, run: RunDir) -> RunDir:
    """Run the same command on other files, check that it starts from scratch, and return its run."""
    ended = trial.train(setting, model=model)
    expect(ended.code == 0, DISHONEST, f"exit code {ended.code}: {ended.errors[-600:]}")
    others = [each for each in find_runs(trial.outputs) if each.path != run.path]
    expect(len(others) == 1, DISHONEST, f"{len(others)} runs next to the old one instead of 1")
    train = checks.read_record(others[0]).train
    assert train is not None
    expect(ended.count("update") == train.steps and not train.resumed_from, DISHONEST, "went on with other work")
    return others[0]


def write_pairs(folder: Path) -> Path:
    """Write some examples of the embedded corpus as JSON Lines, unless present, and return the path."""
    path = folder / "pairs.jsonl"
    if not path.is_file():
        folder.mkdir(exist_ok=True)
        rows = itertools.islice(embedded_rows(), 0, None, 12)
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
