"""How far expectation-maximisation goes in the comparison with crowd-kit."""

STEPS = 60
