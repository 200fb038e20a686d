# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets and the document in force together: what is used stays, and what is missing is told."""

import asyncio
from collections.abc import Callable, Iterator

from agent.access import NamedSecrets, NoSuchSecret
from agent.model import Configuration, Fault
from agent.model.answers import CertificateInfo, SecretInfo, SecretList
from agent.model.secret import KIND_WORDS, Reference, SecretKind, faults, references
from agent.model.state import Trouble


class SecretInUse(Exception):
    """The configuration in force needs the secret as it is. `faults` say where."""

    def __init__(self, name: str, places: list[Reference], remedy: str) -> None:
        self.faults = [Fault(each.pointer, f"names the secret {name} ({KIND_WORDS[each.kind]})") for each in places]
        super().__init__(f"the configuration in force names the secret {name}: {remedy}")


class Secrecy:
    """Sets and deletes secrets between commits, for one event loop."""

    def __init__(self, named: NamedSecrets, lock: asyncio.Lock, document: Callable[[], Configuration]) -> None:
        """`document` is the one in force, which does not change while `lock` is held."""
        self._named = named
        self._lock = lock
        self._document = document

    def faults(self, config: Configuration) -> Iterator[Fault]:
        """A fault for each secret that `config` names and that is not there, or is of another kind."""
        return faults(config, self._named.kinds)

    def troubles(self) -> Iterator[Trouble]:
        """What the document in force names in vain: it is in force all the same, from before a start without them."""
        names = {each.name for each in references(self._document()) if self._named.kinds.get(each.name) != each.kind}
        if names:
            words = f"The configuration names secrets that are missing: {', '.join(sorted(names))}. Set them."
            yield Trouble(code="secret-missing", message=words)

    def told(self) -> SecretList:
        """Every secret without its value, and where the document in force names it."""
        used: dict[str, list[str]] = {}
        for each in references(self._document()):
            used.setdefault(each.name, []).append(each.pointer)
        return SecretList(
            {
                name: SecretInfo(
                    kind=each.kind,
                    changed=each.changed,
                    used_by=used.get(name, []),
                    certificates=[CertificateInfo(**vars(facts)) for facts in each.certificates],
                )
                for name, each in self._named.described().items()
            }
        )

    async def put(
        self, name: str, kind: SecretKind, value: str, *, author: str, source: str
    ) -> tuple[bool, SecretInfo]:
        """Set a secret; whether it is new, and how it is told.

        Raises SecretInUse (another kind is wanted), UnfitSecret, StoreError.
        """
        async with self._lock:
            places = [each for each in self._places(name) if each.kind != kind]
            if places:
                raise SecretInUse(name, places, "it must be of this kind; give it another name")
            new = await asyncio.to_thread(self._named.put, name, kind, value, actor=author, source=source)
            return new, self.told().root[name]

    async def delete(self, name: str, *, force: bool, author: str, source: str) -> None:
        """Erase a secret. Raises SecretInUse unless `force`, NoSuchSecret, StoreError."""
        async with self._lock:
            if name not in self._named.kinds:
                raise NoSuchSecret("there is no secret of this name")
            places = self._places(name)
            if places and not force:
                raise SecretInUse(name, places, "take it out there first, or force it")
            await asyncio.to_thread(self._named.delete, name, actor=author, source=source)

    def _places(self, name: str) -> list[Reference]:
        return [each for each in references(self._document()) if each.name == name]
