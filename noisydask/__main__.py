"""``python -m noisydask`` is the command ``noisydask``."""

from noisydask.command.cli import entry

entry()
