"""DECIDE: from numbers to a duty and its cause. Pure: no clock, no I/O, no logging, no globals."""
