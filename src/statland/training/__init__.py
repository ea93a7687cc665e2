"""One run: from settings to objects, to training, to measurements."""
