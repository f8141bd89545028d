"""Paths of the rooms' partitions under the data root.

<root>/<profile>/<room>/<partition>/     one folder a partition ("all" when unpartitioned)
<root>/<profile>/releases/               immutable releases, one folder each
<root>/<profile>/index/                  the DuckDB file; of a bucket, in this machine's scratch
"""

from dataclasses import dataclass

from alignguard_data.storage import places as storage
from alignguard_data.storage.places import Place

UNPARTITIONED = "all"
_LOCAL = frozenset({"index", "encodings"})
"""Rooms stored on this machine: DuckDB and memory maps need local files, and can be rebuilt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRoot:
    """The data folder of one profile.

    Attributes:
        root: local folder, or prefix in a bucket, of all profiles.
        profile: name of the profile, which is its folder's name.
    """

    root: Place
    profile: str

    @property
    def base(self) -> Place:
        """The profile's folder."""
        return self.root / self.profile

    @property
    def releases(self) -> Place:
        """Folder of all releases."""
        return self.base / "releases"

    def partition(self, room: str, partition: str = UNPARTITIONED) -> Place:
        """Locate one partition of one room.

        Args:
            room: name of the room.
            partition: key of the partition.

        Returns:
            Its folder, which need not exist.
        """
        folder = self.base / room / partition
        return storage.scratch(folder) if room in _LOCAL else folder

    def inside(self, place: Place) -> str:
        """A place relative to the root, as text that stays valid when the root moves.

        Args:
            place: a file or folder in the root.

        Returns:
            Its path relative to the root.
        """
        return str(place).removeprefix(f"{self.root}/")

    def outside(self, inside: str) -> str:
        """The inverse of :meth:`inside`.

        Args:
            inside: a path relative to the root.

        Returns:
            The full path, as text.
        """
        return str(self.root / inside)

    def prepare(self) -> None:
        """Create the profile's folder, readable only by its owner.

        Raises:
            StorageError: the folder cannot be created or written.
        """
        storage.prepare(self.base)
