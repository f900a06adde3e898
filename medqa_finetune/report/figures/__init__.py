"""Charts: each is drawn once and written as PNG, SVG, CSV and into the page."""
