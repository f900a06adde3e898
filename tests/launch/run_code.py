"""Runs code given as its first argument, as `python -c` does; a file, so that the server of forks can run it."""

import sys

code = sys.argv.pop(1)
exec(compile(code, "<cell>", "exec"), {"__name__": "__main__"})  # noqa: S102
