"""Markets: one per file, base.py the contract; price_files.py and dates.py read CSV files."""
