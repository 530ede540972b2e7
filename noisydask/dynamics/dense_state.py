"""What a run on dense losses leaves of each block for the next: states and sums after its
iterations, and a receipt.

``OUT/evidence-dynamics`` is the checkpoint: a job that was killed goes on from the blocks that have
a receipt, and appended iterations cost their columns only. Where the last chunk of the iterations
is not full, states are kept twice: after all iterations, and (``kept_...``) after those that end a
chunk, since that chunk is written again when iterations are added.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.checkpoint import (
    Checkpoint,
    Contents,
    kind_of,
    of_block,
    open_checkpoint,
)
from noisydask.checkpoint.receipts import Payload, Receipt, Why
from noisydask.core.blocks import BlockGrid
from noisydask.core.curve_sums import CurveSums
from noisydask.core.statistics import ExampleStates
from noisydask.core.versions import STATE_VERSION
from noisydask.dynamics.block_sums import BlockSums
from noisydask.dynamics.loss_blocks import LossSource
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.fingerprints import digest
from noisydask.stores.locations import Location

Ints = npt.NDArray[np.int64]

#: Folders of what is kept of each block, and the losses of candidates of all blocks.
SUMS, CROSSINGS, ROWS = "sums", "crossings", "rows.bin"
_KEPT = "kept_"


class LossPayload(Payload):
    """What a receipt tells of a block of losses.

    Attributes
    ----------
    iterations : int
        Iterations that were read.
    kept, kept_source : int, str
        Those that end a chunk of the array, and the digest of what they lie in: a chunk that is not
        full is written again when more come.
    invalid, kept_invalid : int
        Losses that were left out as invalid, of all iterations and of those that are kept.
    """

    iterations: int
    kept: int
    kept_source: str
    invalid: int
    kept_invalid: int


_CONTENTS = Contents(Receipt[LossPayload], STATE_VERSION, (SUMS, CROSSINGS), (ROWS,))


@dataclass(frozen=True)
class Known:
    """What is known of a block: states and sums after its first iterations, losses of candidates by
    position, and how many losses were left out as invalid.
    """

    iterations: int
    states: ExampleStates
    sums: CurveSums
    rows: Mapping[int, npt.NDArray[Any]]
    invalid: int


@dataclass(frozen=True)
class LossCheckpoint:
    """States of all examples, and what goes with them, by blocks.

    Attributes
    ----------
    blocks : Checkpoint
        Where they lie.
    width : int
        Iterations of a chunk of the losses.
    """

    blocks: Checkpoint[LossPayload]
    width: int

    def write_states(self, block: int, states: ExampleStates, kept: bool = False) -> dict[str, str]:
        """Store a block's states, after all iterations or those that end a chunk; return the
        checksums of their columns.
        """
        columns = {_name(name, kept): column for name, column in states.columns().items()}
        return self.blocks.write(block, columns)

    def read_states(self, block: int) -> ExampleStates:
        """Read a block's states after all iterations."""
        columns: dict[str, Any] = self.blocks.read(block, ExampleStates.dtypes(np.float32))
        return ExampleStates(**columns)

    def vouch(self, block: int, receipt: Receipt[LossPayload], sums: BlockSums) -> None:
        """Store the sums and the receipt of a block whose states are stored."""
        self.blocks.keep(of_block(SUMS, block), _tie(receipt), sums.to_bytes())
        self.blocks.vouch(block, receipt)

    def recall(
        self, source: LossSource, labels: str, rows: int, iterations: int
    ) -> tuple[Known | None, Why]:
        """Return what is still known of a block, if anything, and why the rest is to be read."""
        if source.receipt:
            receipt = self.blocks.recall(source.number)
        else:
            receipt = None
        if receipt is None:
            return None, source.why
        stages, why = self._stages(receipt, source, labels, rows, iterations)
        if not stages:
            return None, why
        content = self.blocks.kept(of_block(SUMS, source.number), _tie(receipt))
        if content is None:
            return None, Why.DAMAGED
        sums = BlockSums.from_bytes(content)
        for stage in stages:
            states = self._states(source.number, receipt, stage)
            if states is not None:
                known = dict(zip(sums.index.tolist(), sums.losses[:, :stage], strict=True))
                whole = stage == receipt.payload.iterations
                if whole:
                    invalid = receipt.payload.invalid
                else:
                    invalid = receipt.payload.kept_invalid
                return Known(stage, states, sums.sums.columns(0, stage), known, invalid), why
        return None, Why.DAMAGED

    def _stages(
        self,
        receipt: Receipt[LossPayload],
        source: LossSource,
        labels: str,
        rows: int,
        iterations: int,
    ) -> tuple[list[int], Why]:
        """Return after which iterations the states of a receipt may serve, best first, and why they
        are not all that is needed.
        """
        payload = receipt.payload
        if receipt.rows != rows:
            return [], Why.SOURCE
        if receipt.labels != labels:
            return [], Why.LABELS
        if (payload.iterations, receipt.source) == (iterations, source.fingerprint):
            return sorted({payload.iterations, payload.kept} - {0}, reverse=True), Why.DAMAGED
        if not 0 < payload.kept <= iterations:
            return [], Why.SOURCE
        if payload.kept_source != source.prefix(payload.kept // self.width):
            return [], Why.SOURCE
        return [payload.kept], Why.APPENDED if iterations > payload.iterations else Why.SOURCE

    def _states(
        self, block: int, receipt: Receipt[LossPayload], iterations: int
    ) -> ExampleStates | None:
        kept = iterations != receipt.payload.iterations
        names = {name: _name(name, kept) for name in ExampleStates.dtypes(np.float32)}
        stored = self.blocks.read_checked(block, names.values(), receipt.checksums)
        if stored is None:
            return None
        columns: dict[str, Any] = {name: np.array(stored[names[name]]) for name in names}
        return ExampleStates(**columns)

    def keep_crossings(self, block: int, key: str, rows: Ints, crossings: Ints) -> None:
        """Keep where rows of a block cross a curve; ``key`` is the digest of the losses and the
        curve.
        """
        content = np.stack([rows, crossings]).astype("<i4").tobytes()
        self.blocks.keep(of_block(CROSSINGS, block), key, content)

    def kept_crossings(self, block: int, key: str, rows: Ints) -> Ints | None:
        """Return where rows of a block, ascending, cross a curve, if that was kept of all of
        them.
        """
        content = self.blocks.kept(of_block(CROSSINGS, block), key)
        if not content:
            return None
        known, crossings = np.frombuffer(content, "<i4").reshape(2, -1)
        where = np.minimum(np.searchsorted(known, rows), len(known) - 1)
        if (known[where] == rows).all():
            return crossings[where].astype(np.int64)
        return None

    def keep_rows(self, names: Sequence[tuple[int, str]], losses: npt.NDArray[Any]) -> None:
        """Keep all losses of candidates, by their indices and the digests of what their blocks lie
        in.
        """
        buffer = io.BytesIO()
        (index, sources) = zip(*names, strict=True)
        np.savez(buffer, index=np.array(index), sources=np.array(sources), losses=losses)
        self.blocks.keep(ROWS, "", buffer.getvalue())

    def kept_rows(self) -> dict[tuple[int, str], npt.NDArray[Any]]:
        """Return what :meth:`keep_rows` kept, by index and digest."""
        content = self.blocks.kept(ROWS, "")
        if content is None:
            return {}
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            names = zip(arrays["index"].tolist(), arrays["sources"].tolist(), strict=True)
            return dict(zip(names, arrays["losses"], strict=True))


def _tie(receipt: Receipt[LossPayload]) -> str:
    """Return what ties the sums of a block to its receipt."""
    return digest(receipt.to_bytes(STATE_VERSION))


def _name(column: str, kept: bool) -> str:
    if kept:
        return f"{_KEPT}{column}"
    return column


def open_states(
    root: Location,
    grid: BlockGrid,
    dtype: np.dtype[Any],
    kind: Mapping[str, Any],
    width: int,
    twice: bool,
    fresh: bool,
) -> tuple[LossCheckpoint, BlockGrid, str | None]:
    """Make room for the states of all rows, and keep what is there if it is of this kind.

    Parameters
    ----------
    root : Location
        Their folder.
    grid : BlockGrid
        The blocks. Their rows depend on the number of iterations; those of what is there are taken
        over, so that appended iterations find their states.
    dtype : dtype
        Type of the losses.
    kind : mapping
        What else all blocks depend on.
    width : int
        Iterations of a chunk of the losses.
    twice : bool
        Whether states after those iterations are wanted that end a chunk.
    fresh : bool
        Keep nothing.

    Returns
    -------
    LossCheckpoint, BlockGrid, str or None
        The checkpoint, the blocks, and why what was there was not kept, if anything was.
    """
    kind = {"dynamics_version": STATE_VERSION, "dtype": str(dtype), **kind}
    before = kind_of(root) or {}
    block_rows = before.get("block_rows")
    same = all(before.get(name) == kind[name] for name in kind)
    if isinstance(block_rows, int) and block_rows > 0 and same and not fresh:
        grid = replace(grid, block_rows=block_rows)
    chunk_rows = min(grid.block_rows, grid.rows)
    whole = {**kind, "block_rows": grid.block_rows, "chunk_rows": chunk_rows}
    arrays = {
        _name(name, kept): ChunkedArray(root, _name(name, kept), (grid.rows,), chunk_rows, kinds)
        for name, kinds in ExampleStates.dtypes(dtype).items()
        for kept in (False, True)
    }
    wanted = [name for name in arrays if twice or not name.startswith(_KEPT)]
    blocks, why = open_checkpoint(root, _CONTENTS, arrays, wanted, whole, fresh)
    return LossCheckpoint(blocks, width), grid, why
