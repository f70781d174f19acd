"""The tunables of the target law, each with its unit and why it has this value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetTunables:
    """The defaults were chosen by the control benchmark, `tests/benchmarks/README.md`."""

    # Where to aim
    margin_c: float = 0.2
    """The law aims this far below the target, °C, since a reading is rounded to whole degrees."""
    first_margin_c: float = 1.5
    """The law aims lower by this much at first, °C, since it does not know the card yet. The margin decays by a factor
    of e per `first_margin_s` seconds spent near the target."""
    first_margin_s: float = 50.0
    near_k: float = 10.0
    """Temperatures above the target minus this are near it, K."""
    jump_c: float = 2.0
    """A jump of power to the card's limit may put the die this far above the target, °C. No fan is fast enough for such
    a jump, so the heatsink is kept cool enough for it."""

    # Feedback above the target
    floor_from_c: float = 1.0
    """The over-temperature floor starts at the lowest duty this far above the target, °C, ..."""
    floor_to_c: float = 3.0
    """... and reaches the highest duty this far above it, °C."""
    floor_readings: int = 3
    """The floor follows the lowest of this many readings, since one alone may be noise and would cost 30 %."""

    # When a fall pays
    worth_s: float = 3.2
    """A lower duty pays if it lasts for this many seconds over the fourth power of the duty (0..1). Then the sound
    saved is worth the change: 30 s at 57 %, one minute at 48 %, five minutes at 32 %."""
    shortest_fall_s: float = 30.0
    """No look ahead for a fall is shorter, s."""
    unneeded_s: float = 100.0
    """A duty that was not needed for some time will not be needed for the same time again and this much more, s."""
    seldom_s: float = 900.0
    """A duty that was not needed for this long is given up, s."""
    needed_percent: float = 4.0
    """A demand within this many points of the duty counts as needed."""
    even_share: float = 0.45
    """A load that repeats gets one even duty, if a fall would have to last for at least this share of its pauses. In
    longer pauses of louder loads a fall pays."""

    # How long to wait in a pause
    shortest_wait_s: float = 10.0
    longest_wait_s: float = 60.0
    """How long the fans wait for a load to come back, s: the longest holds while its pauses are not known."""
    patience: float = 3.0
    """Known pauses are waited for up to this multiple of the time that a fall would have to last."""

    # How fast to change
    steady_s: float = 120.0
    """A job that has not changed for this long is steady, s: its temperature then changes mostly by noise."""
    fall_percent: float = 12.0
    """The smallest fall made at once, in general, ..."""
    regular_fall_percent: float = 6.0
    """... in a load or a pause that is like those before, ..."""
    steady_fall_percent: float = 15.0
    """... and in a steady job. Smaller falls are made at the creep rate, which nobody hears."""
    creep_percent_per_s: float = 0.03
    creep_s: float = 200.0
    """The creep slows down once a job has lasted for longer than this, s, or the law would probe the limit for ever."""
    steady_ease_s: float = 40.0
    """Replaces the model's ease in a steady job, s: an overshoot of some tenths decays by itself."""
    rise_share: float = 0.4
    """The share of a rise that is made per bin of the load: a demand that is only noise is not heard."""

    # Several cards
    neighbour_share: float = 0.6
    """The fans run at least at this share of the duty of a neighbour that takes in their card's heat. That adds
    0.3 dB(A) to the neighbour's sound, and saves more where the exhaust is what warms it."""
    saturated_s: float = 10.0
    """A card that stays too hot at full speed for this long, and for good by all that is known, asks the others of its
    box for help, s."""
    slow_fan_percent: float = 10.0
    """Fans this far below the highest duty are not at full speed yet, or do not obey."""

    # Readings
    gap_s: float = 15.0
    """After a longer time without a reading the heatsink's temperature is not known, s."""
    noise_s: float = 2.0
    """Readings further apart do not share noise, s."""
    highest_power_w: float = 2000.0
    """A higher power reading is absurd, W."""
    highest_speed_percent: float = 200.0
    """A higher fan speed is absurd. Drivers do report slightly more than 100 %."""


TUNABLES = TargetTunables()
