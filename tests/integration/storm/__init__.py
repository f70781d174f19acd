"""A storm of faults over a real `gpufan run`, on a clock of the test's own. Every step checks what always holds.

`scene` has the cards and lets faults happen, `process` starts gpufan and sends signals, `judge` checks.
"""
