"""The command ``noisydask``: its options, what it calls, what it shows."""
