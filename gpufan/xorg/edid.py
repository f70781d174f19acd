"""The EDID of a monitor that does not exist, for `setup-xorg --edid`."""

PRETENDED_EDID = bytes.fromhex(
    "00ffffffffffff00"  # header
    "1e0601000100000001220103"  # maker GPF, product 1, serial number 1, week 1 of 2024, EDID 1.3
    "802018780e"  # digital, 32 cm by 24 cm, gamma 2.2, sRGB, the first detailed timing is preferred
    "ee91a3544c99260f5054"  # primary colours and white of sRGB
    "210800"  # 640x480, 800x600 and 1024x768, each at 60 Hz
    "01010101010101010101010101010101"  # no standard timings
    "64190040410026301888360040f010000018"  # 1024x768 at 60 Hz
    "000000fc0067707566616e0a202020202020"  # name: gpufan
    "000000fd00324b1e3c08000a202020202020"  # 50 to 75 Hz, 30 to 60 kHz, at most 80 MHz
    "000000100000000000000000000000000000"  # unused descriptor
    "00"  # no extension blocks
    "8f"  # checksum: all bytes add up to a multiple of 256
)
"""EDID 1.3 of a digital monitor, in the layout of VESA's E-EDID Standard, release A.

The timing is VESA's DMT 0x10: 65 MHz, 1024 + 24 + 136 + 160 pixels, 768 + 3 + 6 + 29 lines, both syncs negative."""
