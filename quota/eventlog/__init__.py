"""The event log: append and read, nothing else. Rows never change."""
