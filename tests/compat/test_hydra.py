"""Which fields of its errors Hydra sets, how its grammar reads arguments, and how its state is put back."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from medqa_finetune.compat.hydra import (
    ABSENT,
    Argument,
    MissingFile,
    as_typed,
    cause_of,
    chosen_names,
    config_files,
    hydra_resolver_of,
    missing_file,
    outcome_of,
    read_arguments,
    unreadable_argument,
    words_of,
)


@dataclass
class Database:
    port: int = 0


@dataclass
class Program:
    name: str = "a"
    db: Database = field(default_factory=Database)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A folder of configuration: a primary file and the groups `db` and `db/engine`."""
    ConfigStore.instance().store(name="compat_schema", node=Program)
    files = {
        "config": "defaults:\n  - compat_schema\n  - db: small\n  - _self_\n",
        "plain": "",
        "db/small": "port: 1\n",
        "db/text": "port: many\n",
        "db/odd": "prot: 1\n",
        "db/lost": "defaults: [nowhere]\n",
        "db/deep": "defaults:\n  - engine: fast\n  - /db/small@_here_\n  - _self_\nport: 2\n",
        "db/engine/fast": "\n# @package db\n# What it is\nport: 3\n",
        "db/engine/top": "# @package _global_\nname: b\n",
        "db/engine/under": "# @package _global_.db.own\nport: 5\n",
        "db/engine/own": "# What it is\n# @package db\nport: 4\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def composed(conf: Path, *overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        return hydra.compose("config", list(overrides), return_hydra_config=True)


def refused(conf: Path, *overrides: str) -> HydraException:
    with pytest.raises(HydraException) as caught:
        composed(conf, *overrides)
    return caught.value


def test_missing_config_exception_names_file_and_options(conf: Path) -> None:
    options = ("deep", "lost", "odd", "small", "text")
    assert missing_file(refused(conf, "db=large")) == MissingFile("db", "large", options)


def test_missing_config_exception_names_a_plain_file(conf: Path) -> None:
    assert missing_file(refused(conf, "db=lost")) == MissingFile("db", "nowhere", ())


def test_missing_config_exception_of_hydras_own_group_names_its_options(conf: Path) -> None:
    found = missing_file(refused(conf, "hydra/launcher=nonsense"))
    assert found is not None
    assert (found.group, found.choice) == ("hydra/launcher", "nonsense")
    assert "basic" in found.options


def test_no_other_error_is_a_missing_file(conf: Path) -> None:
    assert missing_file(refused(conf, "prot=1")) is None
    assert missing_file(FileNotFoundError(2, "no such file")) is None


@pytest.mark.parametrize("typed", ["word", "a=[", "a=1=2", "a=${"])
def test_override_parse_exception_names_the_override(typed: str, conf: Path) -> None:
    assert unreadable_argument(refused(conf, "name=x", typed)) == typed


def test_no_other_error_is_an_unreadable_argument(conf: Path) -> None:
    assert unreadable_argument(refused(conf, "prot=1")) is None


@pytest.mark.parametrize(
    ("overrides", "kind", "key"),
    [
        (["db.port=many"], ValidationError, "db.port"), (["db.prot=1"], ConfigAttributeError, "db.prot"),
        (["bd.port=1"], ConfigKeyError, "bd"), (["+db={prot:1}"], ConfigKeyError, "db.prot"),
    ],
)  # fmt: skip
def test_composition_exception_of_an_override_has_a_cause(
    overrides: Sequence[str], kind: type[Exception], key: str, conf: Path
) -> None:
    cause = cause_of(refused(conf, *overrides))
    assert isinstance(cause, kind)
    assert cause.full_key == key


@pytest.mark.parametrize(
    ("choice", "kind", "key"), [("text", ValidationError, "db.port"), ("odd", ConfigKeyError, "db.prot")]
)
def test_composition_exception_of_a_file_has_a_context(
    choice: str, kind: type[Exception], key: str, conf: Path
) -> None:
    cause = cause_of(refused(conf, f"db={choice}"))
    assert isinstance(cause, kind)
    assert cause.full_key == key


def test_composition_exception_of_a_sweep_has_no_cause(conf: Path) -> None:
    error = refused(conf, "name=a,b")
    assert isinstance(error, ConfigCompositionException)
    assert cause_of(error) is None


def test_an_error_of_omegaconf_is_its_own_cause() -> None:
    error = OmegaConfBaseException("x")
    assert cause_of(error) is error
    assert cause_of(ValueError("x")) is None


def test_words_point_to_no_page_and_no_path(conf: Path) -> None:
    for error in (refused(conf, "db=large"), refused(conf, "a=["), refused(conf, "name=a,b")):
        assert "://" not in words_of(error)
        assert "\n" not in words_of(error)
    assert words_of(ConfigCompositionException()) == "ConfigCompositionException"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a.b=1", Argument("a.b=1", "a.b", 1, "", sweeps=False)),
        ("a='x y'", Argument("a='x y'", "a", "x y", "", sweeps=False)),
        ("a=null", Argument("a=null", "a", None, "", sweeps=False)),
        ("a=[x,1]", Argument("a=[x,1]", "a", ["x", 1], "", sweeps=False)),
        ("a={b:1.5}", Argument("a={b:1.5}", "a", {"b": 1.5}, "", sweeps=False)),
        ("+a=true", Argument("+a=true", "a", True, "+", sweeps=False)),
        ("++a=1", Argument("++a=1", "a", 1, "++", sweeps=False)),
        ("~a", Argument("~a", "a", None, "~", sweeps=False)),
        ("a@b=c", Argument("a@b=c", "a@b", "c", "", sweeps=False)),
        ("a=1,2", Argument("a=1,2", "a", ["1", "2"], "", sweeps=True)),
        ("a=choice(x,y)", Argument("a=choice(x,y)", "a", ["x", "y"], "", sweeps=True)),
        ("a=glob(*)", Argument("a=glob(*)", "a", None, "", sweeps=True)),
        ("a=range(3)", Argument("a=range(3)", "a", None, "", sweeps=True)),
        ("a=interval(0,1)", Argument("a=interval(0,1)", "a", None, "", sweeps=True)),
    ],
)
def test_an_argument_is_read_as_hydras_grammar_reads_it(typed: str, read: Argument) -> None:
    assert read_arguments([typed]) == [read]


def test_flags_and_what_cannot_be_read_are_left_out() -> None:
    typed = ["--config-dir", "mine", "-m", "word", "a=[", f"a={'9' * 5000}", "b=1"]
    assert [each.typed for each in read_arguments(typed)] == ["b=1"]


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("db=small", ["db/small"]), ("db@x=small", ["db/small"]), ("+db=[a,b]", ["db/a", "db/b"]), ("db=3", []),
        ("db.port=x", []), ("~db", []), ("db=a,b", ["db/a", "db/b"]),
    ],
)  # fmt: skip
def test_an_argument_chooses_the_files_of_a_group(typed: str, names: list[str]) -> None:
    assert chosen_names(read_arguments([typed])[0]) == names


def test_every_file_that_a_defaults_list_names_is_found(conf: Path) -> None:
    files = config_files("config", [conf], read_arguments(["db=deep", "name=x"]))
    assert [file.name for file in files] == ["config", "db/deep", "db/small", "db/engine/fast"]
    assert [file.package for file in files] == ["", "db", "db", "db"]
    assert files[1].chooses == ("db/engine/fast", "db/small")


def test_the_files_found_are_those_that_hydra_composes(conf: Path) -> None:
    values = composed(conf, "db=deep")
    names = {f"{group.partition('@')[0]}/{choice}" for group, choice in values.hydra.runtime.choices.items() if choice}
    ours = {name for name in names if not name.startswith("hydra/")}
    assert ours <= {file.name for file in config_files("config", [conf], read_arguments(["db=deep"]))}


@pytest.mark.parametrize(
    ("choice", "package"), [("fast", "db"), ("top", ""), ("own", "db.engine"), ("under", "db.own")]
)
def test_a_files_package_is_the_one_that_hydra_gives_it(choice: str, package: str, conf: Path) -> None:
    (file,) = config_files("none", [conf], read_arguments([f"db/engine={choice}"]))
    assert file.package == package
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        values = hydra.compose("plain", [f"+db/engine={choice}"])
    assert (OmegaConf.select(values, package) if package else values) == file.values


def test_a_file_comes_from_the_first_folder(conf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "db").mkdir(parents=True)
    (other / "db" / "small.yaml").write_text("port: 5\n", encoding="utf-8")
    (file,) = config_files("none", [other, conf], read_arguments(["db=small"]))
    assert file.values == {"port": 5}


def test_an_unreadable_file_is_found_with_its_error(conf: Path) -> None:
    (conf / "db" / "bad.yaml").write_text("42\n", encoding="utf-8")
    (file,) = config_files("none", [conf], read_arguments(["db=bad"]))
    assert (type(file.error), file.values) == (OSError, 42)
    (conf / "db" / "bad.yaml").write_bytes(b"\xff")
    (file,) = config_files("none", [conf], read_arguments(["db=bad"]))
    assert isinstance(file.error, UnicodeDecodeError)


def test_values_are_found_at_their_dotted_keys(conf: Path) -> None:
    (conf / "db" / "some.yaml").write_text("a: {1: [x, {b: null}]}\n", encoding="utf-8")
    (file,) = config_files("none", [conf], read_arguments(["db=some"]))
    assert [file.at(key) for key in ("db.a.1[0]", "db.a[1][1].b")] == ["x", None]
    assert [file.at(key) for key in ("a", "db.b", "db.a.1[2]", "db.a.1[0].x", "other")] == [ABSENT] * 5


def finished(status: JobStatus, value: Any) -> JobReturn:
    result = JobReturn(status=status)
    result.return_value = value
    return result


def test_return_value_of_a_failed_job_is_read_silently(capfd: pytest.CaptureFixture[str]) -> None:
    error = ValueError("broken")
    result = finished(JobStatus.FAILED, error)
    assert outcome_of(result) is error
    assert result.status == JobStatus.FAILED
    assert capfd.readouterr() == ("", "")


def test_return_value_of_other_jobs_is_what_was_set() -> None:
    assert outcome_of(finished(JobStatus.COMPLETED, 7)) == 7
    assert outcome_of(finished(JobStatus.FAILED, None)) is None
    assert outcome_of(JobReturn()) is None


def test_return_value_set_is_what_hydra_raises() -> None:
    with pytest.raises(ValueError, match="broken"):
        print(finished(JobStatus.FAILED, ValueError("broken")).return_value)


def test_the_hydra_resolver_looks_into_the_composition_given_and_back(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_globals()
    # Another test of this process may have run a task.
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    first, second = (composed(conf, f"hydra.job.name={name}", "name=${hydra:job.name}") for name in ("a", "b"))
    with hydra_resolver_of(first):
        assert first.name == "a"
        with hydra_resolver_of(second):
            assert second.name == "b"
        assert HydraConfig.get().job.name == "a"
    assert not HydraConfig.initialized()


def test_global_hydra_is_put_aside_and_back(conf: Path) -> None:
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        before = copy.copy(GlobalHydra.instance())
        GlobalHydra.instance().clear()
        assert not GlobalHydra.instance().is_initialized()
        GlobalHydra.set_instance(before)
        assert GlobalHydra.instance().is_initialized()
        assert hydra.compose("config").name == "a"


def test_a_sweep_is_composed_of_the_master_configuration_and_overrides(conf: Path) -> None:
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        master = hydra.compose("config", ["hydra.job.name=x", "name=b"], return_hydra_config=True)
        cell = GlobalHydra.instance().config_loader().load_sweep_config(master, ["db.port=7"])
    assert (cell.db.port, cell.name, cell.hydra.job.name) == (7, "a", "x")


def test_filter_overrides_leaves_out_hydras_own() -> None:
    assert filter_overrides(["a=1", "hydra.run.dir=x"]) == ["a=1"]


def test_typed_interpolations_stay_as_they_are() -> None:
    """A value from the environment may be a secret, or missing: iterating Hydra's list would resolve it."""
    typed = ["study=${oc.env:NOPE_NOT_SET}", "method=lora"]
    assert as_typed(OmegaConf.create(typed)) == as_typed(typed) == typed
