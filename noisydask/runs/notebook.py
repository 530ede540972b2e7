"""Tables as a notebook shows them."""

from __future__ import annotations

import pandas as pd

from noisydask.text import plain, shortened, significant

#: Characters of a text in a table, at most.
_CELL_WIDTH = 60


def as_html(frame: pd.DataFrame) -> str:
    """Return a table for a notebook. Its texts are what a stranger may have written: no markup of
    theirs is read.

    Examples
    --------
    >>> "<td>&lt;b&gt;</td>" in as_html(pd.DataFrame({"id": ["<b>"], "score": [0.5]}))
    True
    """
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    formats = {name: lambda text: shortened(plain(text), _CELL_WIDTH) for name in texts}
    return frame.to_html(
        index=False, border=0, formatters=formats, float_format=significant, escape=True
    )
