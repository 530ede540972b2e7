"""A finished run of any job, read lazily: what the results of all jobs have in common."""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from html import escape
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.errors import InputError, JobError, LabelWarning
from noisydask.lazily import Lazy
from noisydask.runs.manifest import Manifest
from noisydask.runs.notebook import as_html
from noisydask.runs.store import Output, RunStore
from noisydask.stores.chunks import ChunkedArray

if TYPE_CHECKING:
    import dask
    import zarr

    from noisydask.engine import graph, lazy_results
    from noisydask.engine.progress import Reporter
    from noisydask.stores import zarr_stores
else:
    zarr = Lazy("zarr")
    zarr_stores = Lazy("noisydask.stores.zarr_stores")
    dask = Lazy("dask")
    graph = Lazy("noisydask.engine.graph")
    lazy_results = Lazy("noisydask.engine.lazy_results")

#: Rows that a notebook shows of a run.
_HTML_ROWS = 10


@dataclass(eq=False, repr=False)
class PublishedRun:
    """A finished run of any job: its folder and its manifest, checked (``document``) and as it is
    written (``manifest``).

    A run in a temporary folder goes with this object. Pickled, this takes the files of that folder
    along, as an array in memory takes its numbers; of a run in an output it takes the place alone.
    """

    run: RunStore = field(repr=False)
    document: Manifest = field(repr=False)
    _folder: str | None = field(default=None, init=False, repr=False)

    #: Counts of the manifest that the text of a run says.
    _counts: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        counts = "".join(f"{name}={self.document.counts[name]:,}, " for name in self._counts)
        return f"{type(self).__name__}({counts}run={self.run.run!r})"

    def __dir__(self) -> list[str]:
        ours = ("run", "document", "inputs", "lies_in", "warn")
        return [name for name in super().__dir__() if name[0] != "_" and name not in ours]

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{as_html(self._first(_HTML_ROWS))}"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """All that is known of the run, as ``manifest.json`` has it."""
        return self.document.document()

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, if given."""
        names = self.document.class_names
        if names is None:
            return None
        return list(names)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the inputs look as if they do not belong together, a sentence each; mostly none."""
        return tuple(self.document.warnings)

    def warn(self, reporter: Reporter | None) -> None:
        """Warn who called the function that made this run, where no reporter has shown it."""
        for text in self.warnings if reporter is None else ():
            warnings.warn(text, LabelWarning, stacklevel=3)

    def lies_in(self, folder: str) -> None:
        """Remove the temporary folder of this run when this object is no longer used."""
        self._folder = folder
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def __getstate__(self) -> dict[str, Any]:
        if self._folder is None:
            return self.__dict__
        root = Path(self._folder)
        files = {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }
        return self.__dict__ | {"_folder": files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if self._folder is not None:
            folder = temporary_folder()
            self.lies_in(folder)
            for name, content in state["_folder"].items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.run = Output.at(folder).run_store(self.run.run)

    def _open(self, name: str) -> zarr.Array[Any]:
        return zarr.open_array(
            zarr_stores.zarr_store(self.run.place / name, read_only=True), mode="r"
        )

    def _lazy(self, name: str) -> graph.LazyArray:
        """Return an array of the run, read chunk by chunk when it is computed; until then the run
        stays.
        """
        array = self._open(name)
        stored = ChunkedArray(
            self.run.place, name, array.shape, array.chunks[0], np.dtype(array.dtype)
        )
        chunks = range(-(-stored.shape[0] // stored.chunk_rows))
        return lazy_results.lazy_array(
            [partial(self._kept(_read_chunk), stored, chunk) for chunk in chunks], stored
        )

    def _kept(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that keeps this run from being removed for as long as the function is
        held here.
        """
        return _Kept(call, self)

    def _array(self, name: str) -> npt.NDArray[np.generic]:
        return cast(npt.NDArray[np.generic], self._open(name)[...])

    def _ranking(self) -> graph.Table:
        """Return the ranking, a partition a Parquet part, each read when it is computed; until then
        the run stays.
        """
        parts = [partial(self._kept(read_parts), self.run, [name]) for name in self.document.parts]
        return lazy_results.lazy_frame(parts, self._first(0))

    def _first(self, top: int | None) -> pd.DataFrame:
        """Return the first rows of the ranking, or all."""
        if top is not None and (not isinstance(top, Integral) or top < 0):
            raise InputError(f"the number of rows must be an integer of at least 0, not {top!r}")
        return read_parts(self.run, self.document.parts, top)


def temporary_folder() -> str:
    """Return a new folder on this machine, where Dask has its temporary files."""
    try:
        where = dask.config.get("temporary-directory", None)
        return tempfile.mkdtemp(prefix="noisydask-", dir=where)
    except OSError as error:
        raise InputError(
            "no folder for temporary files can be written: give out=, or name one by TMPDIR"
        ) from error


@dataclass(frozen=True)
class _Kept:
    """A call that holds on to a run, but does not take it along to other processes."""

    call: Callable[..., Any]
    run: PublishedRun | None = field(repr=False)

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, (self.call, None)


def _read_chunk(array: ChunkedArray, chunk: int) -> npt.NDArray[np.generic]:
    """Read a chunk of a run; not the zeros that Zarr takes for one that is gone."""
    try:
        return np.array(array.read(chunk))
    except FileNotFoundError as error:
        raise _gone(f"{array.root.shown}: {array.chunk_name(chunk)}") from error


def _gone(what: str) -> JobError:
    return JobError(f"{what} is gone; was the run removed?")


def read_parts(run: RunStore, names: Sequence[str], rows: int | None = None) -> pd.DataFrame:
    """Read the first ``rows`` rows of a ranking in Parquet parts, or all."""
    tables: list[pa.Table] = []
    for name in names:
        try:
            with (run.place / name).open() as file:
                tables.append(pq.read_table(file).slice(0, rows))
        except FileNotFoundError as error:
            raise _gone(f"{run.place.shown}: {name}") from error
        if rows is not None:
            rows -= len(tables[-1])
            if rows <= 0:
                break
    if not tables:
        return pd.DataFrame()
    # Names are text, whether they came in one part or in several with a dictionary each.
    text = [
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in tables[0].schema
    ]
    return pa.concat_tables(table.cast(pa.schema(text)) for table in tables).to_pandas()
