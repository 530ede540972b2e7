"""Measurements: speed beside the read floor and the programs that this one replaces, and memory."""
