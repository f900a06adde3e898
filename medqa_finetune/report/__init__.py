"""From records to tables and plots; no torch here."""
