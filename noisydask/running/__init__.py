"""How a job runs: its configuration, its cluster, its graphs, its progress, from the lock to the
publication.
"""
