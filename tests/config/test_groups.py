"""Groups read without Hydra, and what is said when a name, a key or a value is wrong."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config import groups
from medqa_finetune.config.groups import conf_folder, conf_folders, load_group, option_names, split_overrides
from medqa_finetune.config.schema import CorpusConfig, DataConfig, ModelConfig
from medqa_finetune.errors import NO_VALUE, ConfigError
from tests.faulty import only_fault

FIELDS = tuple(field.name for field in dataclasses.fields(CorpusConfig))


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "corpus" / "good.yaml").write_text("# one\nname: good\nsource: file\npath: ???\n", "utf-8")
    monkeypatch.setattr(groups, "conf_folder", lambda: tmp_path)
    return tmp_path


def test_conf_folder_is_the_repositorys() -> None:
    assert (conf_folder() / "corpus" / "huatuo26m_lite.yaml").is_file()


@pytest.mark.parametrize("path", sorted((conf_folder() / "corpus").glob("*.yaml")), ids=lambda path: str(path.stem))
def test_first_line_describes_the_corpus(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("# ")
    assert len(text.split("\n")[0]) <= 120
    assert "_target_" not in text


def test_values_and_overrides(conf: Path) -> None:
    corpus = load_group(
        "corpus", "good", CorpusConfig, ["path=a b.csv", "question=[title,ask]", "max_reject_share=0.5"]
    )
    assert (corpus.name, corpus.path, corpus.question, corpus.max_reject_share) == (
        "good",
        "a b.csv",
        ["title", "ask"],
        0.5,
    )
    assert type(corpus.question) is list


@pytest.mark.parametrize(("typed", "read"), [("007", "007"), ("NO", "NO"), ("12:30", "12:30"), ("'a b'", "a b")])
def test_text_is_taken_as_typed(conf: Path, typed: str, read: str) -> None:
    corpus = load_group("corpus", "good", CorpusConfig, [f"path={typed}", f"text={typed}", "id=null"])
    assert (corpus.path, corpus.text, corpus.id) == (read, read, None)


def test_real_groups() -> None:
    assert load_group("data", "20k", DataConfig, ["scale=0.1"]).train_size == 20_000
    assert load_group("model", "qwen2.5-3b", ModelConfig, []).repository == "Qwen/Qwen2.5-3B-Instruct"


@pytest.mark.parametrize(
    ("name", "overrides", "code", "key", "got", "allowed"),
    [
        ("goood", [], "not-allowed", "corpus", "goood", ("good",)),
        ("../corpus/good", [], "not-allowed", "corpus", "../corpus/good", ("good",)),
        ("good", ["pth=x"], "unknown-key", "corpus.pth", NO_VALUE, FIELDS),
        ("good", ["max_reject_share=much"], "wrong-type", "corpus.max_reject_share", "much", ()),
        ("good", ["path=x", "max_reject_share=null"], "wrong-type", "corpus.max_reject_share", None, ()),
        ("good", ["path=x", "max_reject_share=[1]"], "wrong-type", "corpus.max_reject_share", [1], ()),
        ("good", ["path"], "not-key-value", None, "corpus.path", ()),
        ("good", ["files=x"], "wrong-type", "corpus.files", "x", ()),
        ("good", ["question=[a"], "not-yaml", "corpus.question", "[a", ()),
        ("good", ["question=" + "[" * 5000], "not-readable", "corpus", NO_VALUE, ()),
    ],
    ids=lambda value: str(value)[:40],
)
def test_faults(
    conf: Path, name: str, overrides: list[str], code: str, key: str | None, got: Any, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_group("corpus", name, CorpusConfig, overrides)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, fault.allowed) == (code, key, got, allowed)
    assert fault.file is None


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("name: bad\nfiles: [", "not-yaml", 2),
        ("name: !!python/object:os.system {}\nsource: x\n", "not-yaml", 1),
        ("42\n", "not-readable", None),
    ],
)
def test_files_that_cannot_be_read(conf: Path, text: str, code: str, line: int | None) -> None:
    path = conf / "corpus" / "bad.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_group("corpus", "bad", CorpusConfig, [])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file, fault.line_number) == (code, "corpus", str(path), line)


@pytest.mark.parametrize(
    ("text", "code", "key", "is_named"),
    [
        ("- a\n- b\n", "refused", "corpus", False),
        ("name: bad\nunknown: 1\n", "unknown-key", "corpus.unknown", True),
        ("name: bad\nmax_reject_share: much\n", "wrong-type", "corpus.max_reject_share", True),
        ("source: file\n", "missing-key", "corpus.name", False),
        ("name: ${oc.env:NO_SUCH_VARIABLE}\nsource: x\n", "refused", "corpus.name", True),
    ],
)
def test_files_with_faulty_values(conf: Path, text: str, code: str, key: str, is_named: bool) -> None:
    path = conf / "corpus" / "bad.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_group("corpus", "bad", CorpusConfig, ["answer=a"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == (code, key, str(path) if is_named else None)


def test_split_overrides() -> None:
    found = split_overrides(["corpus=csv", "corpus.path=a=b", "data.scale=0.1"], {"corpus": "jsonl", "data": "20k"})
    assert found == {"corpus": ("csv", ["path=a=b"]), "data": ("20k", ["scale=0.1"])}


@pytest.mark.parametrize("argument", ["csv", "model=x", "corpus.=x", "corpus.path", "=x", "--corpus=x"])
def test_split_overrides_refuses(argument: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_overrides([argument], {"corpus": "jsonl"})
    fault = only_fault(caught)
    assert (fault.code, fault.got) == ("unknown-key", argument)
    assert fault.allowed == ("corpus=NAME", "corpus.KEY=VALUE")


def test_names_are_sorted(conf: Path) -> None:
    (conf / "corpus" / "a.yaml").write_text("name: a\n", "utf-8")
    assert option_names("corpus") == ["a", "good"]
    assert option_names("none") == []


@pytest.mark.parametrize("flags", [["--config-dir", "mine"], ["-cd", "mine"], ["--config-dir=mine"]])
def test_the_users_own_folder_comes_after_ours(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert conf_folders(["-m", *flags, "seed=1"]) == [conf_folder()]
    (tmp_path / "mine").mkdir()
    assert conf_folders(["-m", *flags, "seed=1"]) == [conf_folder(), Path("mine")]


def test_the_remedy_for_a_template_works(conf: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_group("corpus", "good", CorpusConfig, ["path=x", "question={title}\n{ask}"])
    remedy = only_fault(caught).hint.partition('"corpus.')[2].rpartition('"')[0]
    assert load_group("corpus", "good", CorpusConfig, ["path=x", remedy]).question == "{title}\\n{ask}"
