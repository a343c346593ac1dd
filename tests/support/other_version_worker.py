"""The template of a party's workers, greeting peers with another protocol version. A test-only variant."""

from parties.worker import handshake
from parties.worker.__main__ import main

if __name__ == "__main__":
    handshake.PROTOCOL_VERSION = "0"
    main()
