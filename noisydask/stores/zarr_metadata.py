"""The metadata of the Zarr arrays and groups that are written (format 3), as Zarr itself writes
them.

They are written in one request each; Zarr would look for what lies in their place, and remove it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

#: Where the metadata of an array or a group lie.
METADATA = "zarr.json"


def array_metadata(shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the metadata of an uncompressed array of plain numbers.

    Parameters
    ----------
    shape, chunks : tuple of int
        Shapes of the array and of a chunk.
    dtype : dtype
        Type of its numbers, which are stored in little-endian order.

    Examples
    --------
    >>> json.loads(array_metadata((10,), (5,), np.dtype("f4")))["data_type"]
    'float32'
    """
    codec: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        codec["configuration"] = {"endian": "little"}
    return _packed(
        {
            "shape": list(shape),
            "data_type": dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
            "fill_value": dtype.type(0).item(),
            "codecs": [codec],
            "attributes": {},
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }
    )


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """Return the metadata of a group with attributes.

    Examples
    --------
    >>> json.loads(group_metadata({"classes": 10}))["attributes"]
    {'classes': 10}
    """
    return _packed({"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})


def _packed(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()
