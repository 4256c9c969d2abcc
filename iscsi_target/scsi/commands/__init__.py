"""The commands: one row each in `table`, and the handlers, from CDB and state to data or operation."""
