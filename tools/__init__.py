"""The parts of the developers' tools that are more than a few lines of shell; the tests use them too."""
