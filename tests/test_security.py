"""The floors of security: nothing that is read is ever run, and no text can steer a terminal or a spreadsheet.

Held elsewhere: formulas in CSV cells (`report/test_table.py`), names of runs (`config/test_checks.py`,
`config/test_identity.py`), control characters in messages and tables (`test_log.py`, `config/test_command_line.py`,
`test_summarize.py`), and that nothing builds objects which a configuration names (`test_layers.py`).
"""

import ast
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from medqa_finetune.config.checks import FORMATS
from medqa_finetune.config.explain import schema_keys
from medqa_finetune.data.readers import FORMAT_OF_SUFFIX, format_of
from tests.commands import ROOT, TINY, files_below, train
from tests.sources import IN_PACKAGE, IN_SCRIPTS, Source, offences

FAMILIES = "scripts/families.py"
# Of the scripts, those that users run; what they are made of runs commands, and the README's code.
SOURCES = [
    *IN_PACKAGE,
    *(each for each in IN_SCRIPTS if each.path.parent == ROOT / "scripts" and each.name != FAMILIES),
]
# What runs code that it reads: by module, or by a call of that name.
RUNS_WHAT_IT_READS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy", "code"}
RUNNING_CALLS = {"eval", "exec", "compile", "__import__", "import_module"}
# Builds a class that an adapter's own configuration names (`auto_mapping`).
ADAPTER_LOADERS = ("AutoPeftModel", "PeftModel", "PeftConfig", "load_adapter")
MARK = "THE_CODE_RAN"


def requirement(name: str) -> Requirement:
    """Return what `pyproject.toml` wants of a package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (found,) = [each for each in map(Requirement, project["dependencies"]) if each.name == name]
    return found


@pytest.mark.parametrize(
    ("name", "vulnerable"),
    [
        ("torch", "2.9.1"),  # CVE-2025-32434 (before 2.6), CVE-2026-24747 (before 2.10): code from `weights_only` files
        ("transformers", "5.2.0"),  # CVE-2026-1839 (pickle in rng_state.pth), CVE-2026-4372 (code from config.json)
        ("transformers", "4.57.0"),
    ],
)
def test_no_version_with_a_known_hole_is_installed(name: str, vulnerable: str) -> None:
    floors = [Version(each.version) for each in requirement(name).specifier if each.operator == ">="]
    assert floors
    assert all(floor > Version(vulnerable) for floor in floors)


def calls(source: Source) -> list[ast.Call]:
    """Return every call in a file."""
    return [node for node in source.nodes if isinstance(node, ast.Call)]


def called(call: ast.Call) -> str:
    """Return the last part of the name that is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def keywords(call: ast.Call) -> dict[str, Any]:
    """Return the constants that a call is given by keyword; what is no constant is `...`."""
    return {
        str(each.arg): each.value.value if isinstance(each.value, ast.Constant) else ... for each in call.keywords
    }  # fmt: skip


def test_code_that_comes_with_a_model_is_never_run() -> None:
    def rule(source: Source) -> Iterator[str]:
        for call in calls(source):
            given = keywords(call)
            loads = called(call) in ("from_pretrained", "from_config")
            if (
                given.get("trust_remote_code", False) is not False
                or (loads and "trust_remote_code" not in given)
                or (called(call) == "from_pretrained" and given.get("local_files_only") is not True)
            ):
                yield ast.unparse(call)

    assert offences(SOURCES, rule) == []


def test_no_setting_can_allow_it() -> None:
    assert not [key for key in schema_keys() if "remote" in key or "trust" in key]


def test_nothing_unpickles_or_runs_what_it_reads() -> None:
    def rule(source: Source) -> Iterator[str]:
        imports = [alias.name for node in source.nodes if isinstance(node, ast.Import) for alias in node.names]
        imports += [str(node.module) for node in source.nodes if isinstance(node, ast.ImportFrom)]
        yield from {name.split(".")[0] for name in imports} & RUNS_WHAT_IT_READS
        for call in calls(source):
            given, written = keywords(call), ast.unparse(call.func)
            if (
                (isinstance(call.func, ast.Name) and called(call) in RUNNING_CALLS)
                or (written == "torch.load" and given.get("weights_only") is not True)
                or given.get("allow_pickle", False)
                or given.get("shell", False)
                or written in ("yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system", "os.popen")
            ):
                yield ast.unparse(call)

    assert offences(SOURCES, rule) == []


def test_no_adapter_says_which_class_it_is_loaded_with() -> None:
    def rule(source: Source) -> Iterator[str]:
        # To ask whether a model has adapters loads none.
        asking = [call for call in calls(source) if called(call) == "isinstance"]
        asked = {id(node) for call in asking for node in ast.walk(call)}
        yield from (
            node.id
            for node in source.nodes
            if isinstance(node, ast.Name) and node.id in ADAPTER_LOADERS and id(node) not in asked
        )
        yield from (ast.unparse(call) for call in calls(source) if called(call) == "load_adapter")

    assert offences(SOURCES, rule) == []


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy", ".npz", ".py", ".joblib", ".h5"])
def test_no_corpus_is_a_pickle_or_a_script(suffix: str) -> None:
    assert format_of(f"pairs{suffix}") is None
    assert set(FORMAT_OF_SUFFIX.values()) | {"auto"} == set(FORMATS)


def test_tensorboard_is_never_opened_to_the_network() -> None:
    texts = [
        *(each.path for each in SOURCES),
        *(ROOT / "conf").rglob("*.yaml"),
        *ROOT.glob("*.md"),
        *(ROOT / ".ci").iterdir(),
    ]
    assert [path for path in texts if path.is_file() and "bind_all" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(
    "text",
    [
        f"!!python/object/apply:os.system ['touch {MARK}']\n",
        f"scheduler: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{MARK}]]\n",
        "scheduler: !!python/name:os.getcwd\n",
        f"_target_: os.system\ncommand: touch {MARK}\n",
        "scheduler:\n  _target_: os.getcwd\n",
    ],
)
def test_a_configuration_file_that_names_code_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "mine.yaml").write_text(text, encoding="utf-8")
    before = files_below(tmp_path)
    done = train(
        "--config-dir", "mine", *TINY, "model.path=none", "method=lora", "data=20k", "train=mine", cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "mine.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    "typed", ["train.scheduler={_target_:os.getcwd}", "+train._target_=os.system", "+_target_=os.getcwd"]
)
def test_a_command_line_that_names_code_is_refused(typed: str, tmp_path: Path) -> None:
    done = train(*TINY, "model.path=none", "method=lora", "data=20k", typed, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "_target_" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_peft_as_installed_runs_no_code_that_an_adapter_names(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours are loaded by users with peft itself: an adapter's `auto_mapping` names a class to import."""
    from peft import AutoPeftModel, LoraConfig

    (tmp_path / "evil_module.py").write_text(f"open({MARK!r}, 'w').close()\nEvil = object\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    LoraConfig(base_model_name_or_path=str(micro_model)).save_pretrained(str(tmp_path / "adapter"))
    path = tmp_path / "adapter" / "adapter_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["auto_mapping"] = {"base_model_class": "Evil", "parent_library": "evil_module"}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"auto_mapping|parent_library|evil_module"):
        AutoPeftModel.from_pretrained(str(tmp_path / "adapter"))
    assert not (tmp_path / MARK).exists()
