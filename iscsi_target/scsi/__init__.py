"""SAM-5, SPC-4 and SBC-3: logical units, their commands and their tasks. Knows no iSCSI word."""
