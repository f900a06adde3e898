"""Intervals, comparisons and fits: numbers from scores per question."""
