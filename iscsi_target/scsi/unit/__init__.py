"""The machine of one logical unit: its tasks, their order, their ends, and the nexuses that it knows."""
