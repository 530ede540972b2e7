"""``python -m noisydask`` is the command ``noisydask``."""

from noisydask.cli.start import start

start()
