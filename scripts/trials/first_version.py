"""Run folders of schema version 1, with their evaluation in the run folder: upgraded, and killed during the upgrade."""

import dataclasses
import json
import shutil
from typing import Any

from medqa_finetune.config import identity
from medqa_finetune.config.folder_names import SEPARATOR, setting_in_name, shortened
from medqa_finetune.record.checksums import stamp_of
from medqa_finetune.record.evaluation_dir import ANSWERING, ITEM_SCORES, PREDICTIONS, RESULTS
from medqa_finetune.record.evaluation_dir import RECORD_NAME as EVALUATION_RECORD
from medqa_finetune.record.files import write_json
from medqa_finetune.record.run_dir import OF_AN_EVALUATION, RunDir
from scripts.trials import checks
from scripts.trials.again import (
    DEFAULT,
    FIRST,
    SECONDS,
    Second,
    copy_first,
    stop_once,
    words,
    write_text,
)
from scripts.trials.checks import DIFFERENT, LOST, expect
from scripts.trials.files import edit
from scripts.trials.inject import Strike
from scripts.trials.reference import Reference
from scripts.trials.settings import Setting
from scripts.trials.stops import kill_later
from scripts.trials.trial import Trial
from scripts.trials.warm import EVALUATE, TRAIN

MOVED = (PREDICTIONS, ANSWERING, ITEM_SCORES)
# Record keys that an upgrade sets, and those that differ if version 1 began the run.
UPGRADED = ("schema_version", "evaluation_name", "evaluation_defaults", "files")
OF_ITS_BEGINNING = ("name", "identity", "evaluation_defaults", "evaluation_name", "files")
# A setting whose run name has room for all settings of its evaluation.
SHORT = Setting("full", batch=8, micro=8)


def as_version_1(run: RunDir) -> RunDir:
    """Convert a run with at most one evaluation back to version 1, and return it."""
    record, folder = json.loads(run.record_path.read_bytes()), checks.the_evaluation(run)
    evaluation: dict[str, Any] = {} if folder is None else json.loads(folder.record_path.read_bytes())
    for name in MOVED:
        if folder is not None and (folder.path / name).is_file():
            shutil.move(folder.path / name, run.path / name)
    shutil.rmtree(run.evaluations_path, ignore_errors=True)
    done = record["status"] == "done"
    left = (*MOVED, RESULTS) if done else ()
    files = {name: stamp for name, stamp in record["files"].items() if done or name.startswith("adapter/")}
    files |= {name: vars(stamp_of(run.path / name)) for name in left if (run.path / name).is_file()}
    first = {
        "schema_version": 1, "identity": identity.first_identity(record["config"]), "name": first_name(record),
        "files": files, "evaluation": evaluation.get("result"), "zero_shot": evaluation.get("exams", {}),
    }  # fmt: skip
    unknown = ("evaluation_name", "evaluation_defaults")
    write_json(run.record_path, {key: value for key, value in {**record, **first}.items() if key not in unknown})
    for manifest in run.checkpoints_path.glob("step-*/manifest.json"):
        edit(manifest, identity=first["identity"])
    return RunDir(run.path.rename(run.path.with_name(str(first["name"]))))


def first_name(record: dict[str, Any]) -> str:
    """Return the name of a run in version 1, which also lists settings of the evaluation."""
    defaults = record["evaluation_defaults"]
    asked = {key: value for key, value in record["config"]["evaluate"].items() if value != defaults.get(key, value)}
    parts = [setting_in_name(f"evaluate.{key}", value) for key, value in asked.items()]
    return shortened(SEPARATOR.join([record["name"], *parts]))


class SecondOfFirst(Second):
    """A second evaluation of a run that version 1 finished."""

    @property
    def name(self) -> str:
        (name,) = (name for name, folder in checks.evaluations(self.reference.run).items() if not folder.in_run)
        return name

    def check_left_alone(self, run: RunDir, before: dict[str, bytes]) -> None:
        """Check that only the record has changed, and that its training part is the same."""
        after = checks.contents(run.path)
        place = f"evaluations/{checks.evaluations(self.reference.run)[self.name].path.name}/"
        follows = ("eval_results.json",) if self.kind == DEFAULT else ()
        changed = {name for name, content in before.items() if after.get(name) != content}
        changed -= {"log.txt", "record.json", *follows}
        expect(not changed, LOST, f"{changed} changed")
        new = [name for name in after.keys() - before.keys() if not name.startswith((place, ".writing-"))]
        expect(new in ([], [EVALUATION_RECORD]), DIFFERENT, f"{new} are new")
        old, now = (json.loads(each["record.json"]) for each in (before, after))
        left_out = (*UPGRADED, *(checks.OF_THE_DEFAULT if self.kind == DEFAULT else ()))
        was, is_now = ({key: part for key, part in each.items() if key not in left_out} for each in (old, now))
        found = checks.differences(was, is_now)
        expect(not found, DIFFERENT, f"of the record: {'; '.join(found[:4])}")
        files = {name: stamp for name, stamp in old["files"].items() if name not in OF_AN_EVALUATION}
        expect(now["files"] == (old if now["schema_version"] == 1 else {"files": files})["files"], LOST, "other files")
        if EVALUATION_RECORD in after:
            first = json.loads(after[EVALUATION_RECORD])
            same = (first["result"], first["exams"], first["status"]) == (old["evaluation"], old["zero_shot"], "done")
            expect(same, LOST, f"the first evaluation is not what it was: {str(first)[:300]}")


def upgrade_first(trial: Trial) -> None:
    """F24: a version 1 folder gets a second evaluation, or is resumed after a kill; with kills in between."""
    chosen = trial.setting() if trial.number % 2 else SHORT
    setting = chosen.but(more=(*chosen.more, f"evaluate.max_samples={FIRST}"))
    if trial.number % 3 == 2:
        go_on_with_first(trial, setting)
        return
    kinds = list(SECONDS)
    kind, module = kinds[trial.number % len(kinds)], trial.chance.choice([TRAIN, EVALUATE])
    trial.say(f"{kind} by {module}: {setting}")
    write_text(trial)
    first = trial.reference_changed(trial.reference(setting), "version-1", as_version_1)
    typed = words(trial, setting, kind, module, first.run)
    asked = SecondOfFirst(trial, setting, kind, module, first, trial.reference_after(first, module, typed))
    before = copy_first(trial, first)
    check_done(trial, setting, before)
    for _ in range(trial.chance.choice([1, 1, 2, 3])):
        stop_once(trial, asked)
        asked.check_stopped(before)
    run = asked.finish(before)
    check_done(trial, setting, checks.contents(run.path))


def check_done(trial: Trial, setting: Setting, before: dict[str, bytes]) -> None:
    """Check that a run counts as done for version 1's command, which leaves it unchanged."""
    ended = trial.train(setting)
    expect(ended.code == 0 and not ended.count("generate"), LOST, f"done, and it ended so: {ended.errors[-600:]}")
    expect(not ended.count("update"), LOST, "trained again")
    run = checks.the_run(trial.outputs)
    assert run is not None
    expect(checks.contents(run.path) == before, LOST, "done, and its folder has changed")


def go_on_with_first(trial: Trial, setting: Setting) -> None:
    """A killed run of version 1 is resumed, also after another kill."""
    reference = trial.reference(setting)
    after, before = trial.chance.choice([("batch ", "update "), ("generate ", "")])
    ended = trial.train(setting, Strike("signal", trial.moment(reference, after=after, before=before), "", "SIGKILL"))
    run = trial.check_stopped(reference)
    assert run is not None
    if checks.read_record(run).status == "pending":  # killed before it had begun: nothing to resume
        return
    as_version_1(run)
    for _ in range(trial.chance.choice([0, 1, 2])):
        ended = trial.train(setting, kill_later(trial, reference, ended))
        checks.check_whole(trial.outputs)
    run = checks.the_run(trial.outputs)
    standing = dataclasses.replace(trial.standing(run), tested=FIRST)
    ended = trial.train(setting)
    expect(ended.code == 0, LOST, f"the same command again ended with {ended.code}: {ended.errors[-600:]}")
    assert run is not None
    check_same(reference, run)
    trial.check_resumed(setting, standing, ended, run)
    expect(not checks.leftovers(trial.outputs), checks.TORN, f"left over: {checks.leftovers(trial.outputs)}")


def check_same(reference: Reference, run: RunDir) -> None:
    """Check that a run of version 1 equals the reference of this version, except for the places of its files."""
    expected, found = reference.results, checks.results(run)
    for each in (expected, found):
        each["record.json"] = {key: value for key, value in each["record.json"].items() if key not in OF_ITS_BEGINNING}
    # The plot of the curves contains the run's name.
    names = [name for name in expected if not checks.is_of_one(name) and not name.startswith("training_curves.")]
    differing = checks.differences({name: expected[name] for name in names}, {name: found.get(name) for name in names})
    expect(not differing, DIFFERENT, "; ".join(differing[:6]))
    known, mine = checks.the_evaluation(reference.run), checks.the_evaluation(run)
    assert known is not None
    assert mine is not None
    for name in (PREDICTIONS, ITEM_SCORES):
        same = (known.path / name).read_bytes() == (mine.path / name).read_bytes()
        expect(same, DIFFERENT, f"{name} is another one")
    evaluation = mine.read()
    expect(evaluation is not None and evaluation.status == "done", LOST, f"the evaluation is not done: {evaluation}")
