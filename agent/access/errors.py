# SPDX-License-Identifier: GPL-2.0-or-later
"""Why access is refused."""


class AccessError(Exception):
    """Access is refused; the message is a sentence for the person who asked."""


class Throttled(AccessError):
    """Too many failures. `retry_after_s`: whole seconds (1 or more) after which another try is looked at."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"too many failed tries; try again in {retry_after_s} s")


class WrongCredentials(AccessError):
    """User and password, or the token, are not valid. It never says which."""

    def __init__(self) -> None:
        super().__init__("user name or password is wrong, or the session has ended")


class WrongPassword(AccessError):
    """Another password than the current one was given, by somebody who is logged in."""

    def __init__(self) -> None:
        super().__init__("this is not the current password")


class SessionNeeded(AccessError):
    """An API token asks for what only a person who is logged in may do."""

    def __init__(self) -> None:
        super().__init__("an API token cannot change the password; log in, and use the session's token")


class WrongCode(AccessError):
    """Another code than the claim code was given."""

    def __init__(self) -> None:
        super().__init__("this is not the code; the appliance's console shows it")


class AlreadyClaimed(AccessError):
    """The appliance has an administrator already."""

    def __init__(self) -> None:
        super().__init__("the appliance has been claimed already; log in")


class WeakPassword(AccessError):
    """The password does not keep the rules; the message says which."""


class UnfitSecret(AccessError):
    """What was given cannot be kept as a secret; the message says why, and never has any of it."""


class NoSuchSecret(AccessError):
    """There is no secret of this name."""
