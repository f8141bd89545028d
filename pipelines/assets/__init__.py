"""The Dagster assets, one a room."""
