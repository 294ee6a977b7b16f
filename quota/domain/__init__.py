"""The rules: events, their fold, scoring and planning. Pure: no I/O, no clock, no randomness."""
