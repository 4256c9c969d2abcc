"""Measures this target beside the C targets that a user would pick, with the same load on the same kind of file.

`peers` starts the targets, `load` is the client, `workloads` says what is measured and `limits` what is demanded,
`rounds` takes the turns, `report` and `plot` show what came of it.
"""
