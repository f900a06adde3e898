import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medqa_finetune.record import files
from medqa_finetune.record.files import (
    append_lines,
    existing_part,
    keep_lines,
    replace_folder,
    replacing,
    sha256_of,
    sha256_of_text,
    sweep,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[2]


def test_json_is_whole_readable_and_open_to_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"问": "答", "n": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"问": "答", "n": 1}
    assert "问" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"value": value})
    assert path.read_text(encoding="utf-8") == "1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"new", "no bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_never_leaves_a_torn_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    code = (
        "from pathlib import Path\nfrom medqa_finetune.record.files import write_json\n"
        f"while True:\n    [write_json(Path({str(path)!r}), [n] * 200_000) for n in (1, 2)]"
    )
    for trial in range(4):
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as writer:
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.03 * (trial + 1))
            writer.send_signal(signal.SIGKILL)
        content = json.loads(path.read_text(encoding="utf-8"))
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_appended_lines_are_kept_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_lines(path, [{"a": "一\u2028"}, {"a": 2}])
    append_lines(path, [{"a": 3}])
    assert [json.loads(line)["a"] for line in path.read_bytes().splitlines()] == ["一\u2028", 2, 3]


def test_a_row_that_json_cannot_hold_appends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_lines(path, [{"a": 1}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_lines(path, [{"a": 2}, {"a": float("nan")}])
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n'


def test_lines_appended_after_a_torn_one_stand_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": ')
    append_lines(path, [{"a": 3}])
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'
    path.write_bytes(b'{"a": 1}\n' + b"x" * 200_000)
    append_lines(path, [{"a": 3}])
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'
    path.write_bytes(b'{"a": ')
    append_lines(path, [{"a": 3}])
    assert path.read_bytes() == b'{"a": 3}\n'


def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "scores.json", tmp_path / "link.json"
    link.symlink_to(target)
    for text in ("new", "newer"):
        write_text(link, text)
        assert (link.is_symlink(), target.read_text(encoding="utf-8")) == (True, text)
    assert list(target.parent.iterdir()) == [target]


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as readers:
        heard = readers.submit(pipe.read_bytes)
        write_text(pipe, "scores")
        assert heard.result(timeout=10) == b"scores"
    assert pipe.is_fifo()


def test_standard_output_is_written_to_where_it_is_a_file(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from medqa_finetune.record.files import write_text; "
        "print('before', flush=True); write_text(Path('/dev/stdout'), 'scores\\n'); print('behind')"
    )
    with (tmp_path / "out").open("ab") as out:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=out, check=True)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "before\nscores\nbehind\n"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    replace_folder(path, lambda folder: (folder / "old").write_text("1", encoding="utf-8"))
    replace_folder(path, lambda folder: (folder / "new").write_text("2", encoding="utf-8"))
    assert [child.name for child in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_stays_when_its_successor_fails(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    replace_folder(path, lambda folder: (folder / "old").write_text("1", encoding="utf-8"))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("2", encoding="utf-8")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(path, fail)
    assert [child.name for child in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_stays_when_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "adapter"
    replace_folder(path, lambda folder: (folder / "old").write_text("1", encoding="utf-8"))
    rename = Path.rename

    def failing(source: Path, target: Path) -> Path:
        # The second rename of the replacement, the new folder into the old one's place.
        if Path(target) == path and not source.name.endswith("-old"):
            raise OSError("no")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no"):
        replace_folder(path, lambda folder: (folder / "new").write_text("2", encoding="utf-8"))
    assert [child.name for child in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("头痛".encode())
    wanted = hashlib.sha256("头痛".encode()).hexdigest()
    assert sha256_of(tmp_path / "a") == sha256_of_text("头痛") == wanted


def test_temporary_files_can_be_told_from_runs() -> None:
    assert files.TEMPORARY_PREFIX.startswith(".")
    assert os.sep not in files.TEMPORARY_PREFIX


@pytest.mark.parametrize(
    ("content", "count", "kept"),
    [
        (b"a\nb\nc\n", 2, b"a\nb\n"),
        (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
        (b"a\nb\nto", 9, b"a\nb\n"),
        (b"a\nb\nto", 1, b"a\n"),
        (b"to", 1, b""),
        (b"a\n", 0, b""),
    ],
)
def test_keeping_the_first_lines_cuts_torn_ones_too(tmp_path: Path, content: bytes, count: int, kept: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    keep_lines(path, count)
    assert path.read_bytes() == kept


def test_keeping_all_lines_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\n")
    before = path.stat()
    keep_lines(path, 2)
    keep_lines(tmp_path / "missing", 2)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (tmp_path / "missing").exists()


def test_sweeping_removes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".writing-file").touch()
    (tmp_path / ".writing-folder" / "deep").mkdir(parents=True)
    (tmp_path / "kept").touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_existing_part_of_a_path_is_itself_or_the_nearest_folder(tmp_path: Path) -> None:
    assert existing_part(tmp_path) == tmp_path
    assert existing_part(tmp_path / "a" / "b") == tmp_path
