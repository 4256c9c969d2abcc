"""Linux guests, of Debian's packages, as initiators of the tests: see `tools/guest --help`."""
