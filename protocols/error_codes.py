"""The catalogue of failures: every code with whose fault it is, of which kind, what happened and what to do."""

from __future__ import annotations

from enum import Enum

from protocols.error_kinds import Entry, Fault, Kind


class ErrorCode(Enum):
    """Stable names of failures. The value is the entry of the catalogue; the name travels."""

    # requests and documents
    INVALID_JOB = Entry(Fault.REQUEST, Kind.INVALID, "The job is not valid.", "Correct the fields named and submit again.")
    INVALID_MODEL = Entry(Fault.REQUEST, Kind.INVALID, "The model cannot run under secret sharing.", "Change the modules named.")
    INVALID_DATA = Entry(
        Fault.REQUEST,
        Kind.INVALID,
        "The rows break the contract of their schema.",
        "Correct the rows named, or leave them out explicitly.",
    )
    INVALID_SCHEMA = Entry(
        Fault.REQUEST, Kind.INVALID, "The schema of a table is not valid.", "Correct the fields of the schema that are named."
    )
    INVALID_CONTRACT = Entry(
        Fault.REQUEST,
        Kind.INVALID,
        "The contract of a data set is not valid.",
        "Correct the fields of the contract that are named.",
    )
    INVALID_RECIPE = Entry(
        Fault.REQUEST,
        Kind.INVALID,
        "The recipe of a preparation is not valid.",
        "Correct the steps of the recipe that are named.",
    )
    FILE_CHANGED = Entry(
        Fault.REQUEST,
        Kind.CONFLICT,
        "A file changed while it was read; nothing was kept of it.",
        "Wait until its export has ended, then begin again.",
    )
    INVALID_DOCUMENT = Entry(Fault.REQUEST, Kind.INVALID, "A signed document cannot be read.", "Ask its author for a new one.")
    INVALID_CONFIG = Entry(Fault.OPERATOR, Kind.INVALID, "The configuration is not valid.", "Correct the fields named.")
    INVALID_ARGUMENT = Entry(Fault.REQUEST, Kind.INVALID, "An argument is not valid.", "Correct the argument named.")
    JOB_CONFLICT = Entry(Fault.REQUEST, Kind.CONFLICT, "That name is taken by something else.", "Choose another name.")
    UNKNOWN_JOB = Entry(Fault.REQUEST, Kind.NOT_FOUND, "No such job is known here.", "List the jobs and check the identifier.")
    UNKNOWN_MODEL = Entry(Fault.REQUEST, Kind.NOT_FOUND, "No such model version is held here.", "Check name and version.")
    UNKNOWN_DATASET = Entry(
        Fault.REQUEST,
        Kind.NOT_FOUND,
        "No such data set is registered here.",
        "Register it at its owner, or check the name.",
    )
    UNKNOWN_OUTPUT = Entry(Fault.REQUEST, Kind.NOT_FOUND, "The job has no such output.", "Use an output that the job declares.")
    NOT_ENOUGH_ROWS = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "Too few rows for an output that may be opened.",
        "Use at least the minimum number of rows.",
    )
    JOB_EXPIRED = Entry(
        Fault.REQUEST,
        Kind.TIMEOUT,
        "The job was not agreed before it expired.",
        "Submit it again while all parties are up.",
    )
    # identity
    UNAUTHENTICATED = Entry(
        Fault.PEER,
        Kind.UNAUTHENTICATED,
        "The caller has no valid certificate of this consortium.",
        "Enrol, or renew the certificate.",
    )
    NOT_AUTHORISED = Entry(Fault.PEER, Kind.DENIED, "The caller may not do this.", "Ask a person who holds the needed role.")
    NOT_ENROLLED = Entry(
        Fault.OPERATOR,
        Kind.NOT_FOUND,
        "That identity is not in the directory.",
        "Enrol it, then distribute the new directory.",
    )
    BAD_SIGNATURE = Entry(Fault.PEER, Kind.INTEGRITY, "A signature does not verify.", "Fetch the document again from its author.")
    STALE_DIRECTORY = Entry(
        Fault.OPERATOR,
        Kind.CONFLICT,
        "The parties hold different versions of the directory.",
        "Import the newest directory at every party.",
    )
    FINGERPRINT_DIFFERS = Entry(
        Fault.OPERATOR,
        Kind.INTEGRITY,
        "The fingerprint is not the one that was read out.",
        "Compare again out of band; do not go on while they differ.",
    )
    # sessions
    UNKNOWN_SESSION = Entry(
        Fault.PEER, Kind.NOT_FOUND, "No such session is open here.", "Nothing to do: the session's end names the cause."
    )
    PLAN_DIFFERS = Entry(
        Fault.PEER,
        Kind.INTEGRITY,
        "The parties derived different plans from the job.",
        "Run the same version of Confide at every party.",
    )
    VERSION_DIFFERS = Entry(
        Fault.OPERATOR, Kind.CONFLICT, "The parties run versions that do not fit.", "Upgrade the party named."
    )
    PEER_LOST = Entry(
        Fault.PEER,
        Kind.UNAVAILABLE,
        "The connection to a party ended.",
        "Check that the party named is up, then submit the job again.",
    )
    PEER_SILENT = Entry(
        Fault.PEER,
        Kind.TIMEOUT,
        "A party stopped answering.",
        "Check that the party named is up, then submit the job again.",
    )
    PARTY_UNREACHABLE = Entry(
        Fault.PEER,
        Kind.UNAVAILABLE,
        "A party cannot be reached.",
        "Check that the party named is up and its endpoint is right.",
    )
    PROXY_REFUSED = Entry(
        Fault.OPERATOR,
        Kind.UNAVAILABLE,
        "The proxy before a party lets nothing through to another.",
        "Ask who runs the proxy to permit CONNECT to the endpoint, or except its host in `no_proxy`.",
    )
    PARTY_BUSY = Entry(
        Fault.PEER, Kind.EXHAUSTED, "A party has no room for another session now.", "Nothing to do: the job waits for its turn."
    )
    BAD_FRAME = Entry(
        Fault.PEER,
        Kind.INTEGRITY,
        "A message of the session is not the one that the plan expects.",
        "Check the versions; if it happens again, treat the party named as faulty.",
    )
    DEADLINE_PASSED = Entry(
        Fault.PEER,
        Kind.TIMEOUT,
        "The session did not progress before its deadline.",
        "Look at the logs of the party named.",
    )
    WORKER_LOST = Entry(
        Fault.OPERATOR,
        Kind.UNAVAILABLE,
        "The session's worker process ended early.",
        "Look at the log of the party named; check memory.",
    )
    EVALUATION_FAILED = Entry(
        Fault.OPERATOR,
        Kind.UNAVAILABLE,
        "An encrypted query could not be evaluated; nothing of it was answered or debited.",
        "Ask again with another request id; if it fails again, tell the operator of the party named.",
    )
    PARTY_RESTARTED = Entry(
        Fault.OPERATOR, Kind.UNAVAILABLE, "The party process ended during the session.", "Submit the job again."
    )
    CANCELLED = Entry(Fault.REQUEST, Kind.ENDED, "The job was cancelled.", "Submit it again if it is still wanted.")
    CANCEL_TOO_LATE = Entry(
        Fault.REQUEST,
        Kind.CONFLICT,
        "The job has ended, or its ending is already being agreed.",
        "Look at the job's ending.",
    )
    JOB_FAILED = Entry(
        Fault.REQUEST,
        Kind.ENDED,
        "The job did not complete.",
        "Read its ending: phase, party at fault, cause and remedy.",
    )
    TRAINING_DIVERGED = Entry(
        Fault.REQUEST,
        Kind.ENDED,
        "The numbers of a training left the range that is declared for them.",
        "Use a smaller learning rate, and scale the features to [-1, 1]; then submit the job again.",
    )
    NOISE_MISSING = Entry(
        Fault.PEER,
        Kind.ENDED,
        "The noise of the owners of rows failed its test, so nothing that it protects was opened.",
        "Ask the owner that is named to restart and update its party; what the job has reserved stays spent.",
    )
    EVIDENCE_MISSING = Entry(
        Fault.REQUEST,
        Kind.DENIED,
        "A model version may not be released with the evidence there is.",
        "Read the reasons; its holder makes a bundle with what is missing (`confide model evidence make`, of an own model "
        "`confide model evidence own`), or asks the people named to approve it (`confide model evidence approve`).",
    )
    LICENCE_REFUSED = Entry(
        Fault.REQUEST,
        Kind.DENIED,
        "Released weights may not be used so, not by you, or not any more.",
        "Keep to the licence that came with them, or ask its issuers for another one.",
    )
    CHECKPOINT_DIFFERS = Entry(
        Fault.REQUEST,
        Kind.CONFLICT,
        "The computing parties hold no common checkpoint that the job could go on from.",
        "Look at the checkpoints that the parties show of the failed job, or train again from the beginning.",
    )
    TOO_LARGE = Entry(
        Fault.REQUEST,
        Kind.INVALID,
        "The job needs more memory or cores than a party gives to sessions, or a document would be larger than is read.",
        "Use fewer rows, smaller batches or a smaller model, or ask the party named to give more; bring fewer reports.",
    )
    TOO_MANY_STREAMS = Entry(
        Fault.REQUEST,
        Kind.EXHAUSTED,
        "The caller holds as many streams open as one member may.",
        "Close other watchers of this party, then try again.",
    )
    # opening
    NO_GRANT = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "There is no grant for this opening.",
        "Only the recipient named in the countersigned job receives an output.",
    )
    GRANT_USED = Entry(Fault.POLICY, Kind.DENIED, "The grant for this opening has been used.", "Submit a new job.")
    NOT_READY = Entry(Fault.REQUEST, Kind.NOT_READY, "The job has not completed.", "Wait for the job to end.")
    COMMITMENT_DIFFERS = Entry(
        Fault.PEER,
        Kind.INTEGRITY,
        "A share of an output is not the one that its party committed to before anything was opened.",
        "Do not use the output; treat the party named as faulty, and submit the job again without it.",
    )
    RELEASE_WITHHELD = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "An output was withheld by a rule.",
        "Read which rule; have the party named mend what is missing (a grant, an agreement, evidence), then submit a new job.",
    )
    # consent
    NO_AGREEMENT = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "No agreement in force covers the job.",
        "Keep to an agreement that all its parties have signed, or have a new one signed.",
    )
    NO_CONSENT = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "No grant of the owner covers the job.",
        "Change what the reasons name, or ask the owner for a grant that permits it.",
    )
    GRANT_EXPIRED = Entry(
        Fault.POLICY, Kind.DENIED, "The grant that the job rests on has expired.", "Ask the owner named for a new grant."
    )
    GRANT_REVOKED = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "The grant that the job rests on has been revoked.",
        "Nothing to do: the owner named has withdrawn its consent.",
    )
    GRANT_EXHAUSTED = Entry(
        Fault.POLICY,
        Kind.EXHAUSTED,
        "The grant has been used as often as it permits.",
        "Ask the owner named for a new grant.",
    )
    MODEL_REVOKED = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "The model rests on data whose owner has withdrawn its consent.",
        "Use another version, or train again without the owner's data.",
    )
    ALIAS_DIFFERS = Entry(
        Fault.PEER,
        Kind.CONFLICT,
        "The holders of a model do not name the same version by an alias.",
        "Name a version, or have every holder move the alias.",
    )
    REFUSED_BY_POLICY = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "The policy of a party refuses the job.",
        "Change what the rule names, or ask the party named.",
    )
    APPROVAL_PENDING = Entry(
        Fault.POLICY,
        Kind.NOT_READY,
        "People at a party have still to approve the job.",
        "Wait, or ask the party named; `confide job explain` says how many approvals are missing.",
    )
    APPROVAL_DENIED = Entry(
        Fault.POLICY,
        Kind.DENIED,
        "An approver at a party has denied the job.",
        "Read the reason; submit a changed job, which is looked at anew.",
    )
    BUDGET_EXHAUSTED = Entry(
        Fault.POLICY,
        Kind.EXHAUSTED,
        "The budget of a data set or model does not suffice for the job.",
        "Ask for less, use other data, or ask the owner named to raise its budget.",
    )
    QUOTA_EXHAUSTED = Entry(
        Fault.REQUEST,
        Kind.EXHAUSTED,
        "The serving has not so many queries or rows left.",
        "Ask about fewer rows, begin another serving, or submit an ordinary inference.",
    )
    UNKNOWN_DOCUMENT = Entry(
        Fault.REQUEST,
        Kind.NOT_FOUND,
        "No such agreement, grant or request for approval is known here.",
        "List them and check the identifier.",
    )
    # audit log
    NOT_LOGGED = Entry(
        Fault.PEER,
        Kind.INTEGRITY,
        "A party's consent is not shown to stand in its audit log under a fresh, cosigned checkpoint.",
        "Look at the log of the party named with `confide audit verify`, and at its witnesses.",
    )
    LOG_FORKED = Entry(
        Fault.PEER,
        Kind.INTEGRITY,
        "A party's audit log contradicts what it has shown before.",
        "Stop working with the party named; both of its checkpoints are kept as evidence.",
    )
    LOG_DAMAGED = Entry(
        Fault.OPERATOR,
        Kind.INTEGRITY,
        "An audit log does not verify.",
        "Compare with the copies that witnesses and auditors hold; the message names the first wrong entry.",
    )
    STATE_ROLLED_BACK = Entry(
        Fault.OPERATOR,
        Kind.INTEGRITY,
        "The state of this party is older than what it has shown to others.",
        "Restore the newest state; spent budgets and revocations must not come back to life from a backup.",
    )
    # this institution
    STATE_LOCKED = Entry(
        Fault.OPERATOR, Kind.CONFLICT, "Another process serves this state folder.", "Stop the other process first."
    )
    STATE_SCHEMA = Entry(
        Fault.OPERATOR,
        Kind.CONFLICT,
        "The database was written by another version.",
        "Run the version that wrote it, or migrate.",
    )
    DISK_FULL = Entry(
        Fault.OPERATOR,
        Kind.UNAVAILABLE,
        "A party cannot store its state: its disk is full or failing.",
        "Free space on the disk of the party named; it goes on by itself.",
    )
    STATE_DAMAGED = Entry(
        Fault.OPERATOR,
        Kind.INTEGRITY,
        "A sealed file does not open with this party's key.",
        "Restore the file and the key from the same backup.",
    )
    FILE_MODE = Entry(Fault.OPERATOR, Kind.INVALID, "A secret file can be read by others.", "Set its mode to 0600.")
    SETUP_INCOMPLETE = Entry(Fault.OPERATOR, Kind.NOT_READY, "The installation is not complete.", "Run `make setup`.")
    INTERNAL = Entry(Fault.OURS, Kind.INTERNAL, "A defect of Confide.", "Report it with the log lines around it.")

    # Two codes may share an entry's text by accident; they must never become aliases of each other.
    def __new__(cls, entry: Entry) -> ErrorCode:
        """Makes every member distinct, whatever its entry."""
        member = object.__new__(cls)
        member._value_ = (len(cls.__members__), entry)
        return member

    @property
    def entry(self) -> Entry:
        """The catalogue entry: fault, kind, summary, remedy."""
        entry: Entry = self.value[1]
        return entry

    @property
    def fault(self) -> Fault:
        """Whose fault this is."""
        return self.entry.fault

    @property
    def kind(self) -> Kind:
        """The coarse class."""
        return self.entry.kind
