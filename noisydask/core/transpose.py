"""Eight rows become eight columns inside the registers: what NumPy and LLVM's vectoriser do an
element at a time.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from noisydask.core.compiled import kernel


@intrinsic
def _eight(typing_context, source, rows, k, column, target, step):
    """Set ``target[step + s, k + n] = source[rows[k + n], column + s]`` for s and n from 0 to 7;
    nothing is checked.
    """

    def codegen(context, builder, signature, args):
        kinds = [signature.args[n] for n in (0, 1, 4)]
        arrays = [
            context.make_array(kind)(context, builder, args[n])
            for kind, n in zip(kinds, (0, 1, 4), strict=True)
        ]
        k, column, step = args[2], args[3], args[5]
        (read, order, write), i64 = arrays, ir.IntType(64)
        pitch = [cgutils.unpack_tuple(builder, array.shape, 2)[1] for array in (read, write)]
        vector, align = (
            ir.VectorType(context.get_value_type(kinds[0].dtype), 8),
            kinds[0].dtype.bitwidth // 8,
        )

        def place(array, row, width, col):
            at = builder.gep(array.data, [builder.add(builder.mul(row, width), col)])
            return builder.bitcast(at, vector.as_pointer())

        found = []
        for n in range(8):
            row = builder.load(builder.gep(order.data, [builder.add(k, i64(n))]))
            found.append(builder.load(place(read, row, pitch[0], column), align=align))
        for n, value in enumerate(_transposed(builder, found)):
            builder.store(value, place(write, builder.add(step, i64(n)), pitch[1], k), align=align)
        return context.get_dummy_value()

    return types.void(source, rows, types.int64, types.int64, target, types.int64), codegen


def _transposed(builder, found):
    """Swap halves, quarters and eighths of eight vectors of eight."""

    def shuffle(a, b, lanes):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), 8), lanes))

    for half in (4, 2, 1):
        low = [c if not c & half else 8 + (c ^ half) for c in range(8)]
        high = [c | half if not c & half else 8 + c for c in range(8)]
        for n in range(8):
            if not n & half:
                a, b = found[n], found[n | half]
                found[n], found[n | half] = shuffle(a, b, low), shuffle(a, b, high)
    return found


@kernel()
def turn(source, rows, column, steps, target):
    """Set ``target[s, k] = source[rows[k], column + s]`` for ``steps`` columns.

    Parameters
    ----------
    source : ndarray of unsigned integers, (n, t), C-contiguous
    rows : ndarray of int64, (k,)
    column, steps : int
    target : ndarray of the same type, C-contiguous, at least (steps, k)
    """
    low, high = 0, -1
    for k in range(rows.size):
        low, high = min(low, rows[k]), max(high, rows[k])
    fits = low >= 0 and high < source.shape[0]
    fits &= column >= 0 and steps >= 0 and column + steps <= source.shape[1]
    fits &= target.shape[0] >= steps and target.shape[1] >= rows.size
    if not (fits and source.flags.c_contiguous and target.flags.c_contiguous):
        raise ValueError("rows and columns must lie in source, and target have room for them")
    whole, square = rows.size // 8 * 8, steps // 8 * 8
    for k in range(0, whole, 8):
        for s in range(0, square, 8):
            _eight(source, rows, k, column + s, target, s)
    for k in range(rows.size):
        for s in range(square if k < whole else 0, steps):
            target[s, k] = source[rows[k], column + s]
