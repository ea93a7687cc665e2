"""Two models and a market that share nothing with the bench's own: a .py and a .yaml each.

Some tests import them as a package that the command line trusts, others copy them into the project.
"""
