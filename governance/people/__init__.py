"""The people of an institution: who they are, which roles they hold, what each role may do."""
