"""The Dagster assets, one per room."""
