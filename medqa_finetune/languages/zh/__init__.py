"""Chinese words, a file for each kind of text.

`report` has keys. The others map English texts to Chinese ones. Braces stand for what differs from case to case, with
any name, which the Chinese repeats. What they stand for is translated as well if it has a translation of its own.
"""
