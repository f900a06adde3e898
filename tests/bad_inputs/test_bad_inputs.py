"""Every one of the forty bad inputs of `reliability.md`, given to the real command line.

What is refused ends with exit code 2 and a line or two that say what is wrong, where, what was got, what is allowed and
what to do, and leaves every file as it was and no new one: no run folder, and no cache but that of a corpus which is
good in itself. (Lock files, which are empty, and empty folders are not looked at.) What is accepted is used as it
should be, and what was left out of it is reported.
"""

from pathlib import Path

import pytest

from tests.bad_inputs.all_cases import CASES
from tests.bad_inputs.case import Case
from tests.commands import files_below

PREPARED = ("outputs/cache/corpus-", "outputs/cache/encoded-")
MESSAGES = Path(__file__).with_name("MESSAGES.md")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.number} {case.what}", marks=[pytest.mark.slow] if case.slow else [])
        for case in CASES
    ],
)
def test_bad_input(case: Case, tmp_path: Path) -> None:
    case.prepare(tmp_path)
    before = files_below(tmp_path)
    done = case.run(tmp_path)
    printed = done.stderr if case.code == 2 else done.stdout + done.stderr
    assert done.returncode == case.code, printed
    assert "Traceback" not in printed
    for text in case.says:
        assert text in printed
    if case.code == 2:
        assert done.stdout == ""
        assert 1 <= len(printed.partition("error: ")[2].splitlines()) <= 2 * case.faults
        after = files_below(tmp_path)
        if case.prepared:
            after = {path: file for path, file in after.items() if not path.startswith(PREPARED)}
        assert after == before
    else:
        case.check(tmp_path)


def test_all_forty_are_there() -> None:
    assert sorted({case.number for case in CASES}) == list(range(1, 41))


def test_every_case_has_its_row_in_the_table_of_messages() -> None:
    rows = [line.split(" | ") for line in MESSAGES.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = {(cells[0].removeprefix("| "), cells[1], cells[2]) for cells in rows}
    assert {(str(case.number), case.what, str(case.code)) for case in CASES} <= listed
