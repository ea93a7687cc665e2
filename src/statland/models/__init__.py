"""Sequence models: base.py holds the contract, every other file but init.py one model."""
