"""Examples files: Parquet with page checksums, verified (F24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentark_core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def read(path: str) -> pa.Table:
    """The table of one file. Raises DataError with the remedy."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such examples file; build the examples first") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not readable as Parquet ({reason}); build it again") from None
