"""Where each room's partitions live under the data root; nothing else.

<root>/<profile>/<room>/<partition>/     one folder a partition ("all" when unpartitioned)
<root>/<profile>/releases/               immutable releases, one folder each
<root>/<profile>/index/                  the DuckDB file
"""

import os
from dataclasses import dataclass
from pathlib import Path

from alignguard_data.errors import StorageError

UNPARTITIONED = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRoot:
    """The data folder of one profile."""

    root: Path
    profile: str

    @property
    def base(self) -> Path:
        return self.root / self.profile

    @property
    def releases(self) -> Path:
        return self.base / "releases"

    def partition(self, room: str, partition: str = UNPARTITIONED) -> Path:
        """The folder of one partition of one room."""
        return self.base / room / partition

    def prepare(self) -> None:
        """Make the profile's folder, readable by its owner alone.

        Raises:
            StorageError: the folder cannot be made or written to.
        """
        try:
            self.base.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chmod(self.base, 0o700)
            probe = self.base / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StorageError(
                f"data root {self.base} cannot be written: {error.strerror}; "
                "set ALIGNGUARD_ROOT to a folder that you own, on a disk with free space"
            ) from error
