"""The template of a party's workers, sharing zeros for the noise that they drew. A test-only variant."""

from parties.worker.__main__ import main
from protocols.mpc import session
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.ring import RingArray


class Silent(NoiseSharing):
    """Commits and opens as it should, and adds nothing."""

    def _rest(self, values: RingArray, pads: RingArray) -> RingArray:
        return super()._rest(values * 0, pads)


if __name__ == "__main__":
    session.NoiseSharing = Silent  # type: ignore[misc]
    main()
