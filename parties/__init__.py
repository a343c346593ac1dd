"""Processes, storage, network and people's interfaces; all input and output is here.

Importing this package forbids TLS 1.2 to gRPC, which reads its settings once, when it is first imported: whatever module of
ours imports gRPC, this one has run before it (docs/adr/0004-tls-1-3-only.md).
"""

import os
import sys

_RSA_ONLY_SUITES = "ECDHE-RSA-AES256-GCM-SHA384"

# Checked where credentials are made: a program that imports gRPC itself before this package gets none.
IS_TLS_1_2_FORBIDDEN = "grpc" not in sys.modules
os.environ["GRPC_SSL_CIPHER_SUITES"] = _RSA_ONLY_SUITES
# What gRPC's core would print by itself is said by our own errors, without addresses of source files.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
