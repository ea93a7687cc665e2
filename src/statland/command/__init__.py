"""What Hydra and the shell see: jobs, folders, mistakes, help."""
