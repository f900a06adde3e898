"""Every one of the forty bad inputs , given to the real command line.

What is refused ends with exit code 2 and a fault that holds what is wrong, where, what was got, what is allowed and
what to do, as data and in a line or two. It leaves every file as it was and no new one: no run folder, and no cache but
that of a corpus which is good in itself. (Lock files, which are empty, and empty folders are not looked at.) What is
accepted is used as it should be, and what was left out of it is reported.
"""

from pathlib import Path

import pytest

from scripts.bad_input_cases.all_cases import CASES
from scripts.bad_input_cases.case import Case
from tests.commands import ROOT, files_below, python

PREPARED = ("outputs/cache/corpus-", "outputs/cache/encoded-")
# Characters of a fault in print, of which a folder's name may be many: two lines of a wide terminal, and half a one.
LONGEST = 500
PAGE = ROOT / "docs" / "bad_inputs.md"


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.number} {case.what}", marks=[pytest.mark.slow] if case.slow else [])
        for case in CASES
    ],
)
def test_bad_input(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    case.prepare(folder)
    before = files_below(folder)
    done = case.run(folder, tmp_path / "faults.json", python)
    printed = done.output + done.complaints
    assert done.code == case.code, printed
    assert "Traceback" not in printed
    for text in case.says:
        assert text in printed
    assert [fault.code for fault in done.faults] == [expected.code for expected in case.faults]
    for fault, expected in zip(done.faults, case.faults, strict=True):
        expected.check(fault)
    if case.code != 2:
        case.check(folder)
        return
    # What a person reads is what a program gets, and nothing else.
    assert done.output == ""
    assert done.complaints.endswith("error: " + "".join(f"{fault.line()}\n" for fault in done.faults))
    assert all(len(fault.line()) <= LONGEST and fault.line().count("\n") == 0 for fault in done.faults)
    after = files_below(folder)
    if case.prepared:
        after = {path: file for path, file in after.items() if not path.startswith(PREPARED)}
    assert after == before


def test_a_refusal_expects_faults_and_nothing_else_does() -> None:
    assert all(bool(case.faults) == (case.code != 0) for case in CASES)


def test_all_forty_are_there() -> None:
    assert sorted({case.number for case in CASES}) == list(range(1, 41))


def test_every_case_has_its_row_in_the_table_of_messages() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = {(cells[0].removeprefix("| "), cells[1], cells[2]) for cells in rows}
    assert {(str(case.number), case.what, str(case.code)) for case in CASES} <= listed
