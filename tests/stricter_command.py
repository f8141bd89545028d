"""The `alignguard` command as it is when a word was added to the rules about minors.

    python -m tests.stricter_command <word> <the command's own arguments>

The word is a plain one of the stand-in's; a rule is changed here as an edit of its tables would.
"""

import sys

from alignguard_data.safety import minors_words

WORD = sys.argv.pop(1)
minors_words.WORDS |= {WORD}

from alignguard_data.safety import rules as safety  # noqa: E402  # it reads the table when imported

safety.VERSION = f"with {WORD}, {safety.VERSION}"

if __name__ == "__main__":
    from pipelines.cli.app import main

    main()
