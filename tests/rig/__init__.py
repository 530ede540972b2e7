"""The fault trials: jobs on a real S3 server behind a proxy that fails on purpose, killed and run
again.

What the tests and ``make faults`` share; needs the extra ``test``.
"""
