"""Decide on a duty and its reason. Pure functions of numbers: no clock, no I/O, no logging, no globals.

`controller` asks `sensor_guard` first whether the reading can be trusted, and then a law: `curve_law` follows a curve,
`target_law` holds a temperature.
"""
