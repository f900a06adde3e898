"""What `medqa-doctor` looks at, a file for each part.

No part needs another one, or a library when it is imported, and none raises: on a broken installation each says what it
can. What loads torch is tried in a process of its own.
"""
