"""`python -m pipelines.cli`: the same as the console script `alignguard`."""

from pipelines.cli.app import main

main()
