"""Scripts run in this process, as the command line would run them."""

import importlib.util
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from medqa_finetune.config.command_line import run_command
from medqa_finetune.errors import Fault, MedQAError

SCRIPTS = Path(__file__).parents[2] / "scripts"


class Outcome(NamedTuple):
    """How a script ended and what it said."""

    code: int
    out: str
    err: str
    faults: tuple[Fault, ...] = ()


@pytest.fixture
def run_script(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Outcome]]:
    """Return a function that runs `scripts/<name>.py` with arguments, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level

    def run(name: str, *arguments: str) -> Outcome:
        spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        faults: list[Fault] = []

        def noted(arguments: list[str]) -> int:
            try:
                code: int = module.main(arguments)
            except MedQAError as error:
                faults.extend(error.faults)
                raise
            return code

        with pytest.raises(SystemExit) as ended:
            run_command(noted, list(arguments))
        captured = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err, tuple(faults))

    yield run
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
