"""RFC 7143: PDUs, login, sessions and connections. LUN, CDB, status and sense are opaque bytes here."""
