"""The one kind of error that a user can act on."""


class UserError(Exception):
    """Something the user gave cannot be used as it is.

    The command line prints it without a traceback; the Python API raises it.

    Args:
        what: what is wrong, with the file or option it is about.
        value: the offending value, where there is one.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, value: object = None, remedy: str) -> None:
        self.what = what
        self.value = value
        self.remedy = remedy
        found = "" if value is None else f" (found: {value})"
        super().__init__(f"{what}{found}. {remedy}")
