"""What lies in stores: inputs opened and read, outputs written, locked, published and removed, each
by its place.
"""
