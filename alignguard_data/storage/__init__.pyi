from .manifest import Manifest
from .partition import PartitionSpec, PartitionWork, open_partition
from .paths import DataRoot
from .places import Place, parse_root
from .shards import sha256_file, write_shard

__all__ = [
    "DataRoot",
    "Manifest",
    "PartitionSpec",
    "PartitionWork",
    "Place",
    "open_partition",
    "parse_root",
    "sha256_file",
    "write_shard",
]
