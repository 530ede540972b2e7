"""Places and bytes: arrays and tables opened and read, arrays written, fingerprints."""
