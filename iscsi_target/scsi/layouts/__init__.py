"""Bytes and values of CDBs and parameter data: layouts, and what belongs to a page alone."""
