"""A stand-in for GPU marketplaces: real HTTP, a real SSH server per instance, its own ledger.

It is the outside world and an independent witness: it imports nothing of the project.
Run it with `python -m providers.simulator --help`.
"""
