"""Computes intervals, comparisons and fits from scores per question."""
