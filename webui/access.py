# SPDX-License-Identifier: GPL-2.0-or-later
"""Claiming the appliance, logging in and out, and the account with its password."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response
from wtforms import Field, HiddenField, PasswordField, StringField
from wtforms.validators import InputRequired, Length, ValidationError

from agent.client import AgentDown, Problem
from agent.model.answers import MIN_PASSWORD
from webui.csrf import EXPIRED, SafeForm
from webui.figures import duration
from webui.security import local
from webui.session import agent, begin, token

blueprint = Blueprint("access", __name__)

MAX_PASSWORD = 1024
SETUP, LOGIN, ACCOUNT = "access/setup.html", "access/login.html", "access/account.html"

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


class PasswordForm(SafeForm):
    """Asks for the current password and for another one, twice."""

    current = PasswordField(
        "Current password",
        [InputRequired("Type your current password."), Length(max=MAX_PASSWORD, message="is too long")],
    )
    new = PasswordField(
        "New password",
        [InputRequired("Choose a new password."), Length(max=MAX_PASSWORD, message="is too long")],
        description=f"At least {MIN_PASSWORD} characters, any you like.",
    )
    repeat = PasswordField("Repeat the new password")

    def validate_repeat(self, field: Field) -> None:
        """Catch a slip of the hand: there is no other way in."""
        if field.data != self.new.data:
            raise ValidationError("The two new passwords differ.")

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Every fault at a field: the field's id, its label, the words."""
        for field in (self.current, self.new, self.repeat):
            yield from ((field.id, field.label.text, words) for words in field.errors)


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


@blueprint.get("/account")
def account() -> Answer:
    """Who is logged in, and a form to change the password."""
    return render_template(ACCOUNT, form=PasswordForm(), top=[])


@blueprint.post("/account")
def change_password() -> Answer:
    """Change the password; every other session ends, this one goes on."""
    form = PasswordForm(request.form)
    if not form.validate():
        return _again(ACCOUNT, form, _expired(form), 400 if form.expired() else 422)
    try:
        ended = agent().change_password(str(form.current.data), str(form.new.data))
    except Problem as problem:
        return _change_refused(form, problem)
    except AgentDown as error:
        # It may have been changed before the answer was lost.
        words = f"The agent does not answer. {error} The next log-in tells whether the password has changed."
        return _again(ACCOUNT, form, [words], 503)
    others = {0: "There was no other session.", 1: "One other session has ended."}
    flash(f"The password has changed. {others.get(ended, f'{ended} other sessions have ended.')}", "good")
    return redirect(url_for("access.account"), 303)


def _change_refused(form: PasswordForm, problem: Problem) -> Answer:
    if problem.status == 401:
        raise problem
    if problem.status == 429:
        return _throttled(ACCOUNT, form, problem)
    top = _place({"/current": form.current, "/new": form.new}, problem)
    return _again(ACCOUNT, form, top, problem.status)


def _setup_refused(form: ClaimForm, problem: Problem) -> Answer:
    if problem.status == 409:
        return redirect(url_for("access.login"), 303)
    if problem.status == 429:
        return _throttled(SETUP, form, problem)
    if problem.status == 403:
        form.code.errors = ["This is not the code that the console shows. It has not changed; type it again."]
        return _again(SETUP, form, [], 403)
    top = _place({"/code": form.code, "/password": form.password}, problem)
    return _again(SETUP, form, top, problem.status)


def _place(fields: Mapping[str, Field], problem: Problem) -> list[str]:
    """Give each fault to its field, by its pointer. What belongs to no field is returned, in words."""
    top = []
    for fault in problem.errors:
        field = fields.get(fault.pointer)
        if field is None:
            top.append(fault.message)
        else:
            field.errors = [*field.errors, fault.message]
    return top if problem.errors else [problem.detail]


def _throttled(template: str, form: SafeForm, problem: Problem) -> Answer:
    seconds = problem.retry_after or 60
    wait = f"{seconds} seconds" if seconds < 60 else duration(seconds)
    text, status = _again(template, form, [f"There were too many tries. Wait {wait}, then try again."], 429)
    return text, status, {"Retry-After": str(seconds)}


def _expired(form: SafeForm) -> list[str]:
    return [EXPIRED] if form.expired() else []


def _again(template: str, form: SafeForm, top: Sequence[str], status: int) -> tuple[str, int]:
    return render_template(template, form=form, top=list(top)), status
