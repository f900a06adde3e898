"""Packages, disk and fonts, as they are and as they fail."""

from pathlib import Path

import pytest

from medqa_finetune.checkup import system
from medqa_finetune.checkup.result import State, guarded
from medqa_finetune.compat import fonts as compat_fonts
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.versions import Untested


def test_missing_packages_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "required", lambda: ["torch", "no-such-package"])
    check = system.check_packages()
    assert (check.state, check.facts["missing"]) == (State.PROBLEM, ["no-such-package"])
    assert check.faults[0].hint.endswith("constraints.txt no-such-package`.")


def test_untested_versions_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "untested_versions", lambda: [Untested("peft", "9.0", "0.20", "0.21.2")])
    check = system.check_packages()
    assert (check.state, check.facts["untested"]) == (State.WARNING, {"peft": "9.0"})


def test_a_folder_that_cannot_be_written_stops_a_run() -> None:
    check = system.check_disk("/proc/outputs", 0)
    assert (check.state, check.faults[0].code, check.facts["writable"]) == (State.PROBLEM, "not-writable", False)


@pytest.mark.parametrize(("needed", "state"), [(0, State.OK), (10**18, State.PROBLEM)])
def test_room_is_compared_with_what_is_needed(tmp_path: Path, needed: int, state: State) -> None:
    assert system.check_disk(str(tmp_path / "new" / "outputs"), needed).state is state


def test_a_machine_without_chinese_fonts_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat_fonts, "chinese_font", lambda: None)
    check = system.check_fonts()
    assert (check.state, check.faults[0].code) == (State.WARNING, "font-missing")


def test_the_font_is_the_one_that_pictures_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat_fonts, "chinese_font", lambda: "Some Sans")
    check = system.check_fonts()
    assert (check.state, check.facts) == (State.OK, {"chinese": ["Some Sans"]})


def test_errors_of_a_check_become_its_faults() -> None:
    def refuse() -> None:
        raise ModelError(Fault("some-code", "is wrong"))

    def fail() -> None:
        raise RuntimeError("two\nlines")

    def miss() -> None:
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401

    codes = [guarded("x", each).faults[0].code for each in (refuse, fail, miss)]  # type: ignore[arg-type]
    assert codes == ["some-code", "not-checked", "import-failed"]
