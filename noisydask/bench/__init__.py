"""Measurements: speed beside the read floor and the programs that this one replaces, memory, faults
survived.
"""
