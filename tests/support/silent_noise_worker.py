"""The template of a party's workers, sharing zeros for the noise that they drew. A test-only variant."""

from parties.worker.__main__ import main
from protocols.mpc import session
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.ring import RingArray


class Silent(NoiseSharing):
    """Commits and opens as it should, and adds nothing."""

    def _share(self, values: RingArray) -> None:
        super()._share(values * 0)


if __name__ == "__main__":
    session.NoiseSharing = Silent  # type: ignore[misc]
    main()
