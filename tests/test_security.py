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
from medqa_finetune.config.explain import dotted_keys, schema_node
from medqa_finetune.data.readers import FORMAT_OF_SUFFIX, format_of
from tests.commands import ROOT, TINY, files_below, train

SOURCES = sorted([*(ROOT / "medqa_finetune").rglob("*.py"), *(ROOT / "scripts").glob("*.py")])
every_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
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


def calls(path: Path) -> Iterator[ast.Call]:
    """Yield every call in a file."""
    yield from (
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    )  # fmt: skip


def called(call: ast.Call) -> str:
    """Return the last part of the name that is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def keywords(call: ast.Call) -> dict[str, Any]:
    """Return the constants that a call is given by keyword; what is no constant is `...`."""
    return {
        str(each.arg): each.value.value if isinstance(each.value, ast.Constant) else ... for each in call.keywords
    }  # fmt: skip


@every_source
def test_code_that_comes_with_a_model_is_never_run(path: Path) -> None:
    for call in calls(path):
        given = keywords(call)
        assert given.get("trust_remote_code", False) is False
        if called(call) in ("from_pretrained", "from_config"):
            assert given["trust_remote_code"] is False
            assert called(call) != "from_pretrained" or given["local_files_only"] is True


def test_no_setting_can_allow_it() -> None:
    assert not [key for key in dotted_keys(schema_node()) if "remote" in key or "trust" in key]


@every_source
def test_nothing_unpickles_or_runs_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & RUNS_WHAT_IT_READS
    for call in calls(path):
        given, written = keywords(call), ast.unparse(call.func)
        assert not (isinstance(call.func, ast.Name) and called(call) in RUNNING_CALLS)
        assert written != "torch.load" or given["weights_only"] is True
        assert not given.get("allow_pickle", False)
        assert not given.get("shell", False)
        assert written not in ("yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system", "os.popen")


@every_source
def test_no_adapter_says_which_class_it_is_loaded_with(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    # To ask whether a model has adapters loads none.
    asking = [node for node in nodes if isinstance(node, ast.Call) and called(node) == "isinstance"]
    asked = {id(node) for call in asking for node in ast.walk(call)}
    names = [node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in asked]
    assert not set(names) & set(ADAPTER_LOADERS)
    assert not [call for call in calls(path) if called(call) == "load_adapter"]


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy", ".npz", ".py", ".joblib", ".h5"])
def test_no_corpus_is_a_pickle_or_a_script(suffix: str) -> None:
    assert format_of(f"pairs{suffix}") is None
    assert set(FORMAT_OF_SUFFIX.values()) | {"auto"} == set(FORMATS)


def test_tensorboard_is_never_opened_to_the_network() -> None:
    texts = [*SOURCES, *(ROOT / "conf").rglob("*.yaml"), *ROOT.glob("*.md"), *(ROOT / ".ci").iterdir()]
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
