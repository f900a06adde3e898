"""Exports a finished run as several model variants, and measures each."""
