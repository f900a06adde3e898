"""Run folders that version 1 of the record wrote."""
