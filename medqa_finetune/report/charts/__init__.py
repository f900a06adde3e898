"""The charts of the report: each is drawn once, and written as PNG, as SVG, as CSV and into the page."""
