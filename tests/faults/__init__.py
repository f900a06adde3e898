"""Faults injected into real runs: `python -m tests.faults` runs the plan and prints a table."""
