"""A room's metadata, columns and costs in the Dagster UI."""
