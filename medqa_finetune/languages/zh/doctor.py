"""What `medqa-doctor` says."""

TEXTS: dict[str, str] = {}
