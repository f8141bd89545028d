"""What Dagster shows of a room: metadata, columns, costs."""
