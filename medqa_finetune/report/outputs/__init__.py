"""Writes the report as CSV, terminal text and Markdown."""
