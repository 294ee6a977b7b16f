"""`python -m quota.cli` is `ckpt-quota`."""

from quota.cli.app import main

main()
