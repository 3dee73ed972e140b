"""Rounds of the real program under everything that a night can bring, its books checked after each step.

``python -m tools.torture --rounds 20 --seed 7``. A round has its folder, its endpoint and its seed; what
happens in it follows from the seed, but for how fast this machine is at the moment.
"""
