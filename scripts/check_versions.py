"""Try this project with other versions of what it depends on, and make the lock files.

python scripts/check_versions.py newest                        the newest releases within the ranges of pyproject.toml
python scripts/check_versions.py lowest --python 3.12          the floors of those ranges
python scripts/check_versions.py locked newest lowest          several sets, one after another; one table
python scripts/check_versions.py newest --quick                only what looks at dependencies, and the demo cells
python scripts/check_versions.py lock [--upgrade]              write constraints.txt and constraints-vllm.txt
python scripts/check_versions.py pythons                       paths of the Pythons from 3.11 to 3.14, the oldest first

Each set gets an environment in a temporary folder, where the quick suite runs and two cells of the demo train. Exit
code: 0 if all is well; 1 if something failed, or a dependency announces a change (unless --allow-warnings); 2 for
arguments that cannot be followed.
"""

import argparse
import dataclasses
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.versions.locks import ResolutionError, extras, write_locks  # noqa: E402
from scripts.versions.pythons import NoSuchPythonError, all_pythons, find_python  # noqa: E402
from scripts.versions.tables import report  # noqa: E402
from scripts.versions.watching import SETS, Asked, Watched, watch  # noqa: E402

LOCK, PYTHONS = "lock", "pythons"
FINE, FAILED, BAD_USAGE = 0, 1, 2
# A shell's exit code for a program ended by Ctrl-C.
STOPPED = 130
# Tests that are the first to detect changes in a release.
QUICK_TESTS = ("tests/compat", "tests/test_dependencies.py")


def main(arguments: Sequence[str]) -> int:
    """Do what is asked and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.what in ([LOCK], [PYTHONS]):
        return _lock(options.upgrade) if options.what == [LOCK] else _pythons()
    if LOCK in options.what or PYTHONS in options.what:
        parser.error(f"{LOCK} and {PYTHONS} stand alone.")
    unknown = sorted(set(options.extras) - set(extras()))
    if unknown:
        parser.error(f"--extras {unknown[0]}: pyproject.toml has {', '.join(extras())}.")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: no such folder.")
    missing = [path for path in options.tests if not (ROOT / path.partition("::")[0]).exists()]
    if missing:
        parser.error(f"--tests {missing[0]}: no such file or folder.")
    try:
        python = find_python(options.python)
    except NoSuchPythonError as error:
        print(error, file=sys.stderr)
        return BAD_USAGE
    tests = tuple(options.tests) or (QUICK_TESTS if options.quick else ())
    asked = Asked(tuple(options.extras), tests, options.demo)
    found = [_watch(name, python, asked, options.keep) for name in dict.fromkeys(options.what)]
    print(report(found))
    if options.json:
        rows = [dataclasses.asdict(watched) for watched in found]
        options.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return FINE if all(watched.fine(options.allow_warnings) for watched in found) else FAILED


def _watch(name: str, python: tuple[str, Path], asked: Asked, keep: bool) -> Watched:
    folder = Path(tempfile.mkdtemp(prefix=f"medqa-{name}-"))
    try:
        return watch(name, python, folder, asked)
    finally:
        if keep:
            print(f"{name}: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _lock(upgrade: bool) -> int:
    try:
        paths = write_locks(ROOT, upgrade)
    except ResolutionError as error:
        print(error, file=sys.stderr)
        return FAILED
    for path in paths:
        print(path.name)
    return FINE


def _pythons() -> int:
    for _, path in all_pythons():
        print(path)
    return FINE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = "; ".join(f"{name}: {meaning}" for name, meaning in SETS.items())
    parser.add_argument("what", nargs="+", choices=(*SETS, LOCK, PYTHONS), metavar="SET", help=f"{sets}; or {LOCK}, "
                        f"{PYTHONS}")  # fmt: skip
    parser.add_argument("--python", metavar="VERSION", help="as in 3.12; the one that runs this by default")
    parser.add_argument("--extras", nargs="+", default=[], metavar="EXTRA", help="installed in addition to dev")
    parser.add_argument("--tests", nargs="+", default=[], metavar="PATH", help="in place of the whole quick suite")
    parser.add_argument("--quick", action="store_true", help=f"of the tests, only {' and '.join(QUICK_TESTS)}")
    parser.add_argument("--no-demo", dest="demo", action="store_false", help="train no cells")
    parser.add_argument("--allow-warnings", action="store_true", help="deprecations are shown and do not fail")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder, with every log, and say where")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is found into a file, too")
    parser.add_argument("--upgrade", action="store_true", help=f"{LOCK}: keep no version that still fits")
    return parser


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # As Ctrl-C: what was started ends with it, and the temporary folder goes.
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = STOPPED
    sys.exit(code)
