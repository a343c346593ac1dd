"""The life of a session: events, actions, one transition table, the machine that is the same at every party."""
