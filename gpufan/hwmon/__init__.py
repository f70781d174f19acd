"""Fan headers of the motherboard, as the kernel's hwmon shows them: find channels, read and set them."""
