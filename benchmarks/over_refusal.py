"""`python -m benchmarks.over_refusal FILE...`: the share of captions refused by the minors rules.

For files of benign captions, which the rules should accept, and for published prompt sets (CSV,
Parquet or text, with the columns of prompt sets). Prints places, not texts.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.safety.rules import VERSION, refusal
from alignguard_train.evaluation.prompt_files import read_prompt_file


def refused_places(file: Path) -> tuple[list[str], int]:
    """Places of a file's refused captions, and its number of captions.

    Raises:
        ConfigError: the file cannot be read, or holds no caption.
    """
    faults: list[str] = []
    read = read_prompt_file(file, None, faults)
    if faults or read is None or not read.rows:
        raise ConfigError(str(file), faults or ["holds no caption"])
    refused = [cells.place for cells in read.rows if refusal(cells.text("prompt"))]
    return refused, len(read.rows)


def main(
    files: list[Path],
    shown: Annotated[int, typer.Option(min=0, help="Places of refused rows to print.")] = 20,
) -> None:
    """Print the refused share, one line per file."""
    console = Console(highlight=False, soft_wrap=True)
    for file in files:
        places, count = refused_places(file)
        share = len(places) / count
        line = f"{file}: {len(places):,} of {count:,} refused ({share:.2%}), rules {VERSION}"
        console.print(line, markup=False)
        if places and shown:
            console.print("  " + ", ".join(places[:shown]), markup=False)


if __name__ == "__main__":
    typer.run(main)
