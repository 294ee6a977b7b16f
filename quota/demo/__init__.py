"""A recorded real run, replayed with real files: what the product does, in half a minute."""
