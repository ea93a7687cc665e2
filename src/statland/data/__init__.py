"""Markets: base.py holds the contract, every other file but price_files.py one market."""
