"""Reads parts of Parquet files, in a local folder or a bucket."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from upath import UPath

from alignguard_data.storage.places import Place, reading


def open_parquet(place: Place) -> pq.ParquetFile:
    """Open a Parquet file for partial reads.

    Args:
        place: the file.

    Returns:
        The open file, which the caller closes.

    Raises:
        FileNotFoundError: there is no such file.
    """
    where = UPath(place)
    with reading(place):
        return pq.ParquetFile(where.path, filesystem=where.fs)


def read_columns(place: Place, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a Parquet file without fetching the others.

    Fetches the footer and the columns' byte ranges, and checks page checksums if the file has them.

    Args:
        place: the file.
        columns: names of the columns.

    Returns:
        All rows of these columns.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the disk or the bucket refused, or the data is damaged.
    """
    where = UPath(place)
    # Otherwise s3fs reads megabytes ahead at the start of each column.
    options = {} if isinstance(place, Path) else {"cache_type": "none"}
    with (
        reading(place),
        where.fs.open(where.path, "rb", **options) as handle,
        pq.ParquetFile(handle, pre_buffer=True, page_checksum_verification=True) as file,
    ):
        return file.read(columns=list(columns))


def dataset(places: Sequence[Place]) -> ds.Dataset:
    """Scan Parquet files of one schema lazily.

    Args:
        places: the files, at least one, all in the same storage.

    Returns:
        A dataset of their rows.
    """
    where = [UPath(place) for place in places]
    return ds.dataset([place.path for place in where], filesystem=where[0].fs, format="parquet")
