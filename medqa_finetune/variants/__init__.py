"""Exports: models made of a finished run in several variants, each measured."""
