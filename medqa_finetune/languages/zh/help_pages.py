"""Pages of `--help`."""

TEXTS: dict[str, str] = {}
