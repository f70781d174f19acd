"""A minimal loop: read each card's temperature, set every fan, sleep for a second. It never releases the fans."""

import time

import pynvml


def main() -> None:
    pynvml.nvmlInit()
    cards = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    counts = [pynvml.nvmlDeviceGetNumFans(card) for card in cards]
    while True:
        for card, count in zip(cards, counts, strict=True):
            temperature_c = pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU)
            for fan in range(count):
                pynvml.nvmlDeviceSetFanSpeed_v2(card, fan, min(max(temperature_c, 30), 100))
        time.sleep(1)


if __name__ == "__main__":
    main()
