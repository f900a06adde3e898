"""Chinese medical question answering: what do more data and the method buy, and what do they cost?"""

__version__ = "0.1.0"
