"""Runs of any job in an output: locked, done, compared, published and removed."""
