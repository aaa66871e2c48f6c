"""The one exception for mistakes that a user can mend."""


class UserError(ValueError):
    """Bad input: its message is one line that says what is wrong, where, and how to mend it.

    Command lines print it as ``error: ...`` and exit with status 1, without a traceback.
    """
