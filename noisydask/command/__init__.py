"""The old name of :mod:`noisydask.cli`, until 0.3."""
