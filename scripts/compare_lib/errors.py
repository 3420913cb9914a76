"""What ends a comparison, or one cell of it."""


class CompareError(Exception):
    """The comparison cannot go on; the text is for the user."""


class RunFailed(Exception):
    """One broker could not do one run; the text stands in the report."""
