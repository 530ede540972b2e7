"""``python -m noisydask`` is the command ``noisydask``."""

from noisydask.command.start import start

start()
