# SPDX-License-Identifier: GPL-2.0-or-later
"""Claiming the appliance, logging in and out."""

from collections.abc import Sequence
from contextlib import suppress

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response
from wtforms import Field, HiddenField, PasswordField, StringField
from wtforms.validators import InputRequired, Length, ValidationError

from agent.client import AgentDown, Problem
from webui.csrf import EXPIRED, SafeForm
from webui.figures import duration
from webui.security import local
from webui.session import agent, begin, token

blueprint = Blueprint("access", __name__)

MAX_PASSWORD = 1024
SETUP, LOGIN = "access/setup.html", "access/login.html"

Answer = str | tuple[str, int] | tuple[str, int, dict[str, str]] | Response


class ClaimForm(SafeForm):
    """Asks for the console's code and a first password."""

    code = StringField("Claim code", [InputRequired("Type the code that the console shows."), Length(max=64)])
    password = PasswordField(
        "New password", [InputRequired("Choose a password."), Length(max=MAX_PASSWORD, message="is too long")]
    )
    repeat = PasswordField("Repeat the password", [Length(max=MAX_PASSWORD)])

    def validate_repeat(self, field: Field) -> None:
        """Catch a slip of the hand: there is no other way in."""
        if field.data != self.password.data:
            raise ValidationError("The two passwords differ.")


class LoginForm(SafeForm):
    """Asks for the password."""

    user = StringField("User", [InputRequired("Type your user name."), Length(max=64)], default="admin")
    password = PasswordField("Password", [InputRequired("Type your password."), Length(max=MAX_PASSWORD)])
    next = HiddenField()


@blueprint.route("/setup", methods=["GET", "POST"])
def setup() -> Answer:
    """The first page of an appliance that nobody owns yet."""
    if agent().claimed():
        return redirect(url_for("access.login"), 303)
    form = ClaimForm(request.form)
    if request.method == "GET":
        return render_template(SETUP, form=form, top=[])
    if not form.validate():
        return _again(SETUP, form, _expired(form), 400 if form.expired() else 422)
    try:
        granted = agent().claim(str(form.code.data).strip(), str(form.password.data))
    except Problem as problem:
        return _setup_refused(form, problem)
    except AgentDown as error:
        return _again(SETUP, form, [f"The agent does not answer. {error}"], 503)
    begin(granted)
    flash("The appliance is yours. Keep the password safe: nothing on the box can show it again.", "good")
    return redirect(url_for("dashboard.index"), 303)


@blueprint.get("/login")
def login() -> Answer:
    """Ask for user and password."""
    if token() is not None:
        return redirect(local(request.args.get("next")), 303)
    if not agent().claimed():
        return redirect(url_for("access.setup"), 303)
    return render_template(LOGIN, form=LoginForm(next=request.args.get("next", "")), top=[])


@blueprint.post("/login")
def log_in() -> Answer:
    """Begin a session."""
    form = LoginForm(request.form)
    if not form.validate():
        return _again(LOGIN, form, _expired(form), 400 if form.expired() else 422)
    try:
        # Without the token of an earlier session, which must not matter here.
        granted = agent().acting(source=agent().source).login(str(form.user.data).strip(), str(form.password.data))
    except Problem as problem:
        if problem.status == 429:
            return _throttled(LOGIN, form, problem)
        wrong = problem.status in (401, 403, 422)
        words = "The user name or the password is wrong." if wrong else problem.detail
        return _again(LOGIN, form, [words], 401 if wrong else problem.status)
    except AgentDown as error:
        return _again(LOGIN, form, [f"The agent does not answer. {error}"], 503)
    begin(granted)
    return redirect(local(form.next.data), 303)


@blueprint.post("/logout")
def logout() -> Response:
    """End the session, here and at the agent."""
    if not SafeForm(request.form).validate():
        abort(400, EXPIRED)
    if token() is not None:
        # A session that has ended already, or an agent that does not answer, must not keep anybody from leaving.
        with suppress(Problem, AgentDown):
            agent().logout()
    session.clear()
    return redirect(url_for("access.login"), 303)


def _setup_refused(form: ClaimForm, problem: Problem) -> Answer:
    if problem.status == 409:
        return redirect(url_for("access.login"), 303)
    if problem.status == 429:
        return _throttled(SETUP, form, problem)
    if problem.status == 403:
        form.code.errors = ["This is not the code that the console shows. It has not changed; type it again."]
        return _again(SETUP, form, [], 403)
    top = []
    for fault in problem.errors:
        field = {"/code": form.code, "/password": form.password}.get(fault.pointer)
        if field is None:
            top.append(fault.message)
        else:
            field.errors = [*field.errors, fault.message]
    if not problem.errors:
        top.append(problem.detail)
    return _again(SETUP, form, top, problem.status)


def _throttled(template: str, form: SafeForm, problem: Problem) -> Answer:
    seconds = problem.retry_after or 60
    wait = f"{seconds} seconds" if seconds < 60 else duration(seconds)
    text, status = _again(template, form, [f"There were too many tries. Wait {wait}, then try again."], 429)
    return text, status, {"Retry-After": str(seconds)}


def _expired(form: SafeForm) -> list[str]:
    return [EXPIRED] if form.expired() else []


def _again(template: str, form: SafeForm, top: Sequence[str], status: int) -> tuple[str, int]:
    return render_template(template, form=form, top=list(top)), status
