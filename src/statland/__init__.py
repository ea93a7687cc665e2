"""The StatLand bench: how far back does a sequence model's gradient reach?"""
