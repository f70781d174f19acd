"""SENSE and ACT: cards over NVML, over NV-CONTROL or simulated, and which of these a card gets."""
