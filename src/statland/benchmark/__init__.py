"""How fast the bench is: ratios taken in one run, on one thread."""
