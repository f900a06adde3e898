"""Faults: their one line, their fields, and what an error does with them."""

import pickle

import pytest

from medqa_finetune.errors import NO_VALUE, ConfigError, DataError, Fault, MedQAError, RunError, distinct, noting

RANGE = Fault("out-of-range", "must be an integer ≥ 1", key="train.epochs", got=0)
CHOICE = Fault(
    "not-allowed", "unknown format", key="format", got="xml", allowed=("csv", "json"), hint="Give format=csv.",
    file="mine.yaml", line_number=3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (RANGE, "train.epochs=0: must be an integer ≥ 1."),
        (CHOICE, "mine.yaml:3: format=xml: unknown format; allowed: csv, json. Give format=csv."),
        (Fault("gone", "no such file", file="a.csv"), "a.csv: no such file."),
        (Fault("row", "must be a JSON object", got=[1, None], file="a", line_number=2),
         "a:2: must be a JSON object (got [1,null])."),
        (Fault("pair", "must be key=value", got="seed", allowed=("run", "format")),
         "must be key=value (got seed); allowed: run, format."),
        (Fault("quoted", "the library says: no.", file="a"), "a: the library says: no."),
        (Fault("empty", "must be text", key="name", got=""), "name='': must be text."),
        (Fault("null", "must be text", key="name", got=None), "name=null: must be text."),
        (Fault("escape", "must be text", key="name", got="a\x1b[31m"), "name='a\\x1b[31m': must be text."),
    ],
)  # fmt: skip
def test_a_fault_has_one_line(fault: Fault, line: str) -> None:
    assert fault.line() == line


def test_a_long_value_is_cut() -> None:
    line = Fault("long", "too long", key="k", got="x" * 5000).line()
    assert len(line) < 270
    assert "…" in line


@pytest.mark.parametrize("fault", [RANGE, CHOICE, RANGE.but(got=None), RANGE.but(got=NO_VALUE)])
def test_fields_survive_json(fault: Fault) -> None:
    assert Fault.from_json(fault.as_json()) == fault


def test_a_value_that_json_lacks_is_text() -> None:
    assert RANGE.but(got=float("nan")).as_json()["got"] == "nan"
    assert RANGE.but(got=float).as_json()["got"] == "<class 'float'>"


def test_an_error_lists_each_fault_once() -> None:
    error = ConfigError(RANGE, CHOICE, RANGE.but(got=0))
    assert error.faults == (RANGE, CHOICE, RANGE)
    assert str(error).splitlines() == [RANGE.line(), CHOICE.line()]
    assert error.as_json() == {
        "error": "ConfigError", "exit_code": 2, "faults": [RANGE.as_json(), CHOICE.as_json()],
    }  # fmt: skip


def test_faults_with_lists_are_told_apart() -> None:
    assert distinct([RANGE.but(got=[1]), RANGE.but(got=[1]), RANGE.but(got=[2])]) == [
        RANGE.but(got=[1]), RANGE.but(got=[2]),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [ConfigError, DataError, RunError])
def test_an_error_survives_another_process(kind: type[MedQAError]) -> None:
    copy = pickle.loads(pickle.dumps(kind(CHOICE, RANGE)))  # noqa: S301
    assert type(copy) is kind
    assert copy.faults == (CHOICE, RANGE)


def test_noting_collects_faults() -> None:
    faults: list[Fault] = []
    with noting(faults):
        raise ConfigError(RANGE, CHOICE)
    with noting(faults):
        pass
    assert faults == [RANGE, CHOICE]


def test_a_notebook_shows_the_lines_alone() -> None:
    assert ConfigError(RANGE)._render_traceback_() == [f"ConfigError: {RANGE.line()}"]
