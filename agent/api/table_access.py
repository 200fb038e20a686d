# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the table of endpoints that is about who may come in, and about secrets."""

from agent.api import entry, named, now
from agent.api.description import get_openapi
from agent.api.route import LIST, Query, Reply, Route
from agent.model.answers import (
    Claim,
    ClaimState,
    Console,
    Login,
    PasswordChange,
    PasswordChanged,
    SecretInfo,
    SecretList,
    SecretValue,
    Session,
)

NO_ROOM = "The data partition is full or can't be written."

_FORCE = Query("force", "integer", "1: even while the configuration in force names it.", maximum=1)
_THROTTLED = {429: "Too many failed tries; Retry-After says in how many seconds the next is looked at."}


ACCESS: tuple[Route, ...] = (
    Route(
        "GET",
        "/secrets",
        named.list_secrets,
        "Every secret, without its value",
        {200: Reply("Kinds, times, certificates, and who refers to them.", SecretList)},
        "secrets",
    ),
    Route(
        "PUT",
        "/secrets/{name}",
        named.put_secret,
        "Set or replace a secret",
        {200: Reply("It is replaced.", SecretInfo), 201: Reply("It is set.", SecretInfo)},
        "secrets",
        "Takes effect at once, and makes no snapshot. No endpoint ever answers with the value.",
        body=SecretValue,
        limit=LIST,
        refusals={
            409: "The configuration in force names it as another kind; `errors` says where.",
            422: "The name, the value or the form of the body is not fit.",
            507: NO_ROOM,
        },
    ),
    Route(
        "DELETE",
        "/secrets/{name}",
        named.delete_secret,
        "Erase a secret",
        {204: Reply("It is erased.")},
        "secrets",
        query=(_FORCE,),
        refusals={
            404: "There is no secret of this name.",
            409: "The configuration in force names it; `errors` says where.",
            507: NO_ROOM,
        },
    ),
    Route(
        "GET",
        "/claim",
        entry.get_claim,
        "Whether the appliance has an administrator",
        {200: Reply("Claimed or not.", ClaimState)},
        "access",
        is_open=True,
    ),
    Route(
        "POST",
        "/claim",
        entry.claim,
        "Become the administrator of an unclaimed appliance",
        {201: Reply("A session of the administrator.", Session)},
        "access",
        "Needs the one-time code that the appliance's console shows.",
        body=Claim,
        is_open=True,
        refusals={
            403: "The code is wrong.",
            409: "The appliance has been claimed already.",
            422: "The password, or the form of the body, is not fit.",
            **_THROTTLED,
            507: NO_ROOM,
        },
    ),
    Route(
        "POST",
        "/sessions",
        entry.log_in,
        "Log in",
        {201: Reply("The session.", Session)},
        "access",
        body=Login,
        is_open=True,
        refusals={401: "User or password is wrong.", 422: "The form of the body is not fit.", **_THROTTLED},
    ),
    Route(
        "DELETE",
        "/sessions/current",
        entry.log_out,
        "Log out",
        {204: Reply("The session has ended.")},
        "access",
    ),
    Route(
        "PUT",
        "/password",
        entry.change_password,
        "Change the administrator's password",
        {200: Reply("The new password holds; every other session has ended.", PasswordChanged)},
        "access",
        "Needs a session and the current password. The session that asks goes on, and API tokens stay.",
        body=PasswordChange,
        refusals={
            403: "The current password is wrong, which `errors` says at /current; or an API token asks.",
            422: "The new password, or the form of the body, is not fit; nothing was looked at or counted.",
            **_THROTTLED,
            507: NO_ROOM,
        },
    ),
    Route(
        "GET",
        "/console",
        now.get_console,
        "What the appliance's console shows",
        {200: Reply("Addresses, claim code and troubles.", Console)},
        "access",
        "Only for the console's own user on the appliance, by the kernel's word; never over the network.",
        is_open=True,
        refusals={403: "The caller is not the console."},
    ),
    Route(
        "GET",
        "/openapi.json",
        get_openapi,
        "This description",
        {200: Reply("OpenAPI 3.1.", schema={"type": "object"})},
        "access",
        is_open=True,
    ),
)
