"""Dask: graphs, clusters, progress and failures."""
