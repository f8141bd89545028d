"""Where a model comes from: a local folder, a file that packs one, or a hub id and its revision."""

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.unpacked import is_packed, packed_revision, unpacked
from alignguard_data.engines.weights import folder_revision


@dataclass(frozen=True)
class ModelSource:
    """A model's name, revision and place, known without loading it.

    Raises:
        EngineError: a hub id without a revision.
    """

    model: str
    """Folder, packed file (GGUF or .zip) or hub id."""
    commit: str | None = None
    """A hub id's revision; a folder and a file have the hash of their content."""
    field: str = "revision"
    """What the profile calls ``commit``, for the error."""

    def __post_init__(self) -> None:
        if not self.is_local and not self.commit:
            raise EngineError(
                f"{self.model} is not a local folder: a hub id needs a revision (a commit), "
                f"and {self.field} is {self.commit!r}"
            )

    @cached_property
    def folder(self) -> Path | None:
        """The local folder, or None."""
        return Path(self.model) if Path(self.model).is_dir() else None

    @cached_property
    def _packed(self) -> bool:
        return is_packed(self.model)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder or file of this machine."""
        return self._packed or self.folder is not None

    @property
    def model_id(self) -> str:
        """The hub id, or the folder's or file's name, never a path of this machine."""
        if self._packed:
            return Path(self.model).stem
        return self.folder.resolve().name if self.folder else self.model

    @property
    def revision(self) -> str:
        """Hash of the folder's weights and configs, hash of the file, or commit of the hub id.

        Raises:
            EngineError: the folder has no safetensors file.
        """
        if self._packed:
            return packed_revision(self.model)
        return folder_revision(self.folder) if self.folder else str(self.commit)

    @property
    def identity(self) -> str:
        """``<model_id>@<revision>``."""
        return f"{self.model_id}@{self.revision}"

    @property
    def place(self) -> str:
        """What ``from_pretrained`` reads; a packed file is unpacked into the cache, once."""
        return str(unpacked(self.model)) if self._packed else self.model

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``from_pretrained``."""
        revision = {} if self.is_local else {"revision": self.commit}
        return {"pretrained_model_name_or_path": self.place, **revision}


def resolve_model(model: str) -> str:
    """The place of a model that an installed package holds.

    Args:
        model: ``package:<package>/<path>``, or another name.

    Returns:
        A local path; other names unchanged.

    Raises:
        ValueError: the package is not installed.
    """
    if not model.startswith("package:"):
        return model
    package, _, inside = model.removeprefix("package:").partition("/")
    try:
        # Found without importing: a package may print, or fail to import.
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError as error:
        raise ValueError(f"{model} is not an installed package ({error})") from error
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{model} is not an installed package")
    return str(Path(next(iter(spec.submodule_search_locations))) / inside)
