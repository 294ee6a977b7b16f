"""The event log: append and read; rows never change. Beside it, what keeps processes out of each other's way.

That is the database's two kinds of transactions, turns, leases and heartbeats.
"""
