"""The native kernel of the recurrence, beside the readable path in unroll.py."""
