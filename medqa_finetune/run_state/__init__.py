"""Claims a cell for a process, checks what earlier starts left, and records how the work ended."""
