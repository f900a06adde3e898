"""Run folders at a URL or in a mounted folder: fetched before a start, stored while it runs."""
