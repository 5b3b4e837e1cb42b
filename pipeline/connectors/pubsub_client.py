"""What source and sink share of Pub/Sub: its errors in plain words, and word of broken connections."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, Final

import grpc
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError

from models.errors import DeploymentError, InputError, LivelistError
from pipeline.pubsub_emulator import EMULATOR_VARIABLE

#: A question to the service is given up after so long.
ANSWER_SECONDS: Final = 10.0
_LOGGER: Final = logging.getLogger(__name__)

#: What a call to Pub/Sub may raise.
PUBSUB_ERRORS: Final = (exceptions.GoogleAPIError, GoogleAuthError, grpc.RpcError)
_REFUSED: Final = (exceptions.Forbidden, exceptions.Unauthenticated, GoogleAuthError)


def endpoint() -> str:
    """Where the client connects to, in words."""
    emulator = os.environ.get(EMULATOR_VARIABLE)
    return f"the Pub/Sub emulator at {emulator}" if emulator else "Pub/Sub"


def may_pass(error: BaseException) -> bool:
    """Whether waiting may help."""
    if isinstance(error, GoogleAuthError):
        return bool(getattr(error, "retryable", False))
    # Of the client's own errors these are NotFound, Forbidden, Unauthenticated and InvalidArgument.
    return not (isinstance(error, exceptions.ClientError) and error.code not in (408, 409, 429, 499))


def explain(error: BaseException, what: str, remedy: str, near: Callable[[], str]) -> LivelistError:
    """`error` of a call about `what` ("subscription projects/p/subscriptions/s") as one readable line.

    `remedy` and `near`, which asks for names that exist, are for what is not there.
    """
    if isinstance(error, exceptions.NotFound):
        return InputError(f"{endpoint()} has no {what}; {near()}{remedy}")
    if isinstance(error, _REFUSED):
        return DeploymentError(
            f"{endpoint()} refused access to {what}: {_first_line(error)}; run `gcloud auth "
            "application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name the key file of an "
            "account that may use it"
        )
    where = (
        f"start it, or correct {EMULATOR_VARIABLE}"
        if EMULATOR_VARIABLE in os.environ
        else "is there a network?"
    )
    return InputError(
        f"{endpoint()} did not answer about {what} within {ANSWER_SECONDS:g} s: {_first_line(error)}; {where}"
    )


def nearest_path(path: str, known: Iterable[str]) -> str:
    """ "did you mean X? else " for the resource name most like `path`, or an empty text."""
    near = difflib.get_close_matches(path, list(known), 1, 0.8)
    return f"did you mean {near[0].rpartition('/')[2]}? else " if near else ""


def _first_line(error: BaseException) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0][:300]


class Connectivity:
    """Says once when the connection breaks, and once when it is back."""

    def __init__(self, channel: Any) -> None:
        self._down = False
        self._channel = channel
        channel.subscribe(self._on_change)

    def stop(self) -> None:
        """No word any more."""
        self._channel.unsubscribe(self._on_change)

    def _on_change(self, state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and not self._down:
            self._down = True
            _LOGGER.warning("%s does not answer; trying again until it does", endpoint())
        elif state is grpc.ChannelConnectivity.READY and self._down:
            self._down = False
            _LOGGER.warning("%s answers again", endpoint())
