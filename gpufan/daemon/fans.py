"""Sets the fans of one card, reads them back, and gives them back to the driver together with the limits."""

from contextlib import suppress

from gpufan.core.gpu import Gpu
from gpufan.core.reasons import Cause, Reason
from gpufan.daemon.counters import Counters
from gpufan.daemon.limits import CardLimits
from gpufan.daemon.read_back import ReadBack, release_and_read_back
from gpufan.daemon.taken import Taken
from gpufan.errors import GpuError, GpuLost, NoPermission


class Fans:
    """Sets the fans of one card, and gives them back to the driver."""

    def __init__(self, gpu: Gpu, counters: Counters, taken: Taken | None) -> None:
        """`taken` writes the record of the cards whose fans are set. It is None if no record is written."""
        self._gpu = gpu
        self._counters = counters
        self._taken = taken
        self.limits = CardLimits(gpu, taken)
        self._permitted = False
        """Whether the driver has ever let us set the fans."""
        self.read_back = ReadBack()
        self.release_error = ""
        """Why the fans could not be given back, or set to full speed by `make_safe`; empty without such an error."""
        self.stopped = False
        self._held: bool | None = None
        """Whether fans may have a duty that gpufan has set; None if only an earlier run may have set one."""

    def set(self, now_s: float, duty_percent: int | None) -> Reason | None:
        """Set the fans to `duty_percent`; None gives the fans to the driver. Does nothing after `stop`.

        Returns the fault if the driver refuses, else None. Raises GpuLost. Raises NoPermission if gpufan has no
        permission and no earlier call has succeeded.
        """
        if self.stopped:
            return None
        try:
            if duty_percent is None:
                self._gpu.release()
                self._held = False
            else:
                if self._taken is not None:
                    self._taken.add(self._gpu.info)
                self._held = True
                self._gpu.set_duty(duty_percent)
        except GpuLost:
            raise
        except (GpuError, NoPermission) as error:
            if isinstance(error, NoPermission) and not self._permitted:
                raise
            self.read_back.forget()
            self._counters.count_error("refused")
            return Reason(Cause.REFUSED, message=str(error))
        self._permitted = True
        self.read_back.wrote(now_s, duty_percent)
        # Read back at once. A change that comes later is then known to be made by another program.
        self.read_back.check(now_s, self._gpu.read())
        return None

    def release(self) -> bool:
        """Give fans and limits back to the driver. Returns whether all were given back. Raises GpuLost.

        If the fans cannot be given back, the reason is stored in `release_error`.
        """
        self.release_error = ""
        try:
            release_and_read_back(self._gpu)
            self._held = False
        except GpuLost:
            raise
        except (GpuError, NoPermission) as error:
            self._counters.count_error("not_given_back")
            self.release_error = str(error)
        finally:
            self.limits.give_back()
        if not self.release_error and self._taken is not None:
            self._taken.remove(self._gpu.info.uuid)
        return not self.release_error and self.limits.given_back

    def make_safe(self) -> None:
        """After a fault, give the fans to a controller that knows the temperature of the card. Raises GpuLost.

        That is the driver. But channels of the motherboard get full speed, and stay in the record: the BIOS does not
        know this temperature.
        """
        if not self._gpu.info.channels:
            self.release()
            return
        self.release_error = ""
        try:
            self.hand_over()
        except GpuLost:
            raise
        except (GpuError, NoPermission) as error:
            self.release_error = str(error)
        finally:
            self.limits.give_back()

    def make_safe_while_hanging(self) -> None:
        """Do the same for channels of the motherboard, while another thread hangs in a call to the card."""
        with suppress(GpuError, NoPermission):
            self.hand_over()
        self.read_back.forget()
        if self.stopped:  # meanwhile, so the fans were perhaps set after they were given back
            with suppress(GpuError, NoPermission):
                self.stop()

    def hand_over(self) -> None:
        """Do only the first part of `make_safe`: set the fans. Raises GpuError, GpuLost or NoPermission."""
        if not self._gpu.info.channels:
            self._gpu.release()
        elif not self.stopped:
            self._gpu.set_duty(self._gpu.info.duty_range[1])

    def hand_over_if_held(self) -> None:
        """Call `hand_over` if fans may have a duty that gpufan or an earlier run has set.

        Errors are ignored: the card may be lost. Once the driver has the fans, it keeps them. Channels of the
        motherboard get full speed at each call, since nobody else raises them. Those that this run has not set stay as
        they are, since they are not in the record yet.
        """
        if self._held is False or (self._held is None and self._gpu.info.channels):
            return
        with suppress(GpuError, NoPermission):
            self.hand_over()
            self._held = bool(self._gpu.info.channels)

    def stop(self) -> None:
        """Give fans and limits back to the driver. Later calls of `set` do nothing.

        At the same time, a call of `set` that hung may return in another thread. Raises GpuError, GpuLost or
        NoPermission.
        """
        self.stopped = True
        try:
            release_and_read_back(self._gpu)
        except NoPermission:
            if self._permitted:
                raise
            # Without permission nothing was ever set.
        finally:
            self.limits.give_back()
        self.limits.require_given_back()
