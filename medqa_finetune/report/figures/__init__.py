"""Draws the charts, each written as PNG, SVG and CSV and into the page."""
