"""The report as one page that needs no network: for people who would rather look than read."""
