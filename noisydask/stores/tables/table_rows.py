"""Rows of a table in files: what one column and a matrix of columns have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from noisydask.stores.listing import Listing
from noisydask.stores.rows import Chunk, Rows
from noisydask.stores.tables.table_files import TableFiles


@dataclass(kw_only=True)
class TableRows(Rows):
    """Rows of a table.

    Attributes
    ----------
    files : TableFiles
        The table.
    """

    files: TableFiles

    @property
    def packages(self) -> frozenset[str]:
        """The package that the file system is of."""
        return self.files.place.packages

    def objects(self) -> Listing:
        """List the files: each has one version, whichever rows changed."""
        return self.files.objects()

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the files that rows lie in, with where in them."""
        return self.files.chunks(start, stop)
