"""The report as files and text: CSV, terminal and Markdown."""
