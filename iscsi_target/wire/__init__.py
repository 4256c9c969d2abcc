"""Bytes to values and back: layouts, CRC-32C, serial numbers. Knows no protocol."""
