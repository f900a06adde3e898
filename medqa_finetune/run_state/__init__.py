"""A cell's status, from the first claim on its folder to the last word of its records."""
