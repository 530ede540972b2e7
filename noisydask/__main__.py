"""``python -m noisydask`` is the command ``noisydask``."""

from noisydask.cli import entry

entry()
